//! Evaluators: losses, predictions and features to metrics.

use super::registry::slot_schema;
use super::{Confusion, Dataset, Pooling, Prediction, TaskKind};
use crate::data::Batch;

/// A metric over a whole dataset.
#[typetag::serde(tag = "type")]
pub trait Evaluator: std::fmt::Debug + Send + Sync {
    /// What has to be computed for it.
    fn needs(&self) -> Needs;

    /// Which features, for [`Needs::Features`].
    fn features(&self) -> FeatureNeeds<'_> {
        FeatureNeeds::default()
    }

    /// A meter that has seen nothing yet. `classes` are the names of those that the dataset tells apart for the task that is measured
    /// ([`Samples::classes`](super::Samples::classes)); without names, or without a task, there are none.
    fn meter(&self, classes: &[String]) -> Box<dyn Meter>;

    /// The metric that decides which checkpoint is best, and whether more of it is better.
    fn best(&self) -> (&'static str, bool);
}

slot_schema!(Evaluator);

/// What an evaluator needs of every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The losses of the heads.
    Losses,
    /// What the heads of this task predict. A recipe without one is refused.
    Predictions(TaskKind),
    /// Features of whole images, without masks, and those of a support set: see [`Evaluator::features`].
    Features,
}

/// Which features an evaluator needs, and beside which ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct FeatureNeeds<'a> {
    /// A backbone or a neck, `backbone`, or one of its levels, `backbone.s2`; the last level of the last one if left
    /// out.
    pub level: Option<&'a str>,
    /// What of a level stands for the image.
    pub pooling: Pooling,
    /// The images whose classes are known, prepared as those of the validation set; the training set if left out.
    pub support: Option<&'a dyn Dataset>,
}

/// The features of a support set of `S` images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Support {
    /// `[S, C]`, row-major, each of length 1.
    pub features: Vec<f32>,
    /// The classes of the images.
    pub classes: Vec<usize>,
}

/// What a meter is shown of a batch: what its evaluator needs.
#[derive(Debug, Clone, Copy)]
pub enum Measured<'a> {
    /// For [`Needs::Losses`]: losses by name (`loss`, `decoder.reconstruction`).
    Losses(&'a [(String, f64)]),
    /// For [`Needs::Predictions`]: of every head of the task in the order of the recipe, at least one.
    Predictions(&'a [&'a Prediction]),
    /// For [`Needs::Features`].
    Features {
        /// `[B, C]`, row-major, each of length 1.
        features: &'a [f32],
        /// Those that they are compared with, of as many channels.
        support: &'a Support,
    },
}

/// Collects over batches; the result does not depend on how samples were batched.
pub trait Meter {
    /// Takes a batch.
    ///
    /// # Errors
    /// The batch cannot be measured: the evaluation ends.
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError>;

    /// What it has collected so far, for [`Meter::merge`] of another process: see
    /// [`metrics::state`](crate::metrics::state).
    fn state(&self) -> Vec<u8>;

    /// Takes what another meter of the same evaluator has collected: as if it had seen its batches, too.
    ///
    /// # Errors
    /// The bytes are not the [`Meter::state`] of such a meter.
    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError>;

    /// The metrics by name.
    fn finish(&self) -> Vec<(String, f64)>;

    /// What a report shows of every class, where classes are measured one by one.
    fn classes(&self) -> Vec<ClassFigures> {
        Vec::new()
    }

    /// Which classes of images are taken for which, where that was measured.
    fn confusion(&self) -> Option<Confusion> {
        None
    }
}

/// What was measured of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassFigures {
    /// Its name.
    pub class: String,
    /// Figures by name: `box_ap`.
    pub figures: Vec<(String, f64)>,
    /// Curves by name: precision at recalls from 0 to 1, evenly spaced, in percent.
    pub curves: Vec<(String, Vec<f64>)>,
}

/// Why a batch cannot be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum MeterError {
    /// The meter was shown something else than its evaluator needs.
    #[error("an evaluator was shown something else than it needs")]
    #[diagnostic(help("this is a mistake in the evaluator: what it `needs` is not what its meter takes"))]
    NotNeeded,
    /// A state is not that of such a meter.
    #[error("what another process has measured cannot be read: {0}")]
    #[diagnostic(help("do all processes run the same recipe with the same version of convmae?"))]
    State(String),
    /// Predictions, or what they are to be compared with, are not what can be measured.
    #[error("{images}: what is predicted cannot be measured: {reason}")]
    Refused {
        /// What the images are called.
        images: String,
        /// Why not.
        reason: String,
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
}
