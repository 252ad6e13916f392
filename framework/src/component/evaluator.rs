//! Evaluators: losses and predictions to metrics.

use super::Predictions;
use super::registry::slot_schema;
use crate::data::Batch;

/// A metric over a whole dataset.
#[typetag::serde(tag = "type")]
pub trait Evaluator: std::fmt::Debug + Send + Sync {
    /// What has to be computed for it.
    fn needs(&self) -> Needs;

    /// A meter that has seen nothing yet.
    fn meter(&self) -> Box<dyn Meter>;

    /// The metric that decides which checkpoint is best, and whether more of it is better.
    fn best(&self) -> (&'static str, bool);
}

slot_schema!(Evaluator);

/// What an evaluator needs of every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The losses of the heads.
    Losses,
    /// The predictions of the heads.
    Predictions,
}

/// Collects over batches; the result does not depend on how samples were batched.
pub trait Meter {
    /// Takes a batch: `losses` by name (`decoder.loss`), `predictions` by head, as far as they were asked for.
    fn update(&mut self, losses: &[(String, f64)], predictions: &[(String, Predictions)], batch: &Batch);

    /// The metrics by name.
    fn finish(&self) -> Vec<(String, f64)>;
}
