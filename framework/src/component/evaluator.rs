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
    ///
    /// # Errors
    /// The batch cannot be measured: the evaluation ends.
    fn update(
        &mut self,
        losses: &[(String, f64)],
        predictions: &[(String, Predictions)],
        batch: &Batch,
    ) -> Result<(), MeterError>;

    /// The metrics by name.
    fn finish(&self) -> Vec<(String, f64)>;
}

/// Why a batch cannot be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum MeterError {
    /// No head predicts what the evaluator measures.
    #[error("no head predicts `{0}`, which an evaluator measures")]
    #[diagnostic(help("remove the evaluator, or add the head"))]
    NoPrediction(&'static str),
    /// An array is not what its name promises.
    #[error("the prediction `{name}` has the shape {shape:?}; it should be {expected}")]
    Shape {
        /// The array.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// What it should be: `[B, K]`.
        expected: &'static str,
    },
    /// It is not known what is right for an image.
    #[error("{image}: the image has no {what}, which an evaluator compares the prediction with")]
    #[diagnostic(help("evaluate on a dataset whose every image has one, or remove the evaluator"))]
    NoTarget {
        /// What the image is called.
        image: String,
        /// What it lacks: `class`.
        what: &'static str,
    },
    /// A prediction and the label map differ in size; heights and widths.
    #[error(
        "{image}: the prediction is {} x {}, the label map {} x {}",
        prediction[0], prediction[1], label[0], label[1]
    )]
    Size {
        /// What the image is called.
        image: String,
        /// Height and width of the prediction.
        prediction: [usize; 2],
        /// Height and width of the label map.
        label: [usize; 2],
    },
    /// A predicted value is not the index of a class.
    #[error("{image}: the prediction has the value {value}, which is not the index of a class")]
    NotAClass {
        /// What the image is called.
        image: String,
        /// The value.
        value: f32,
    },
}
