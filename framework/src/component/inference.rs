//! Inference: how a model is shown images of other sizes than its own.

use super::registry::slot_schema;
use super::{ImageShape, Prediction, Problem, TaskKind};
use crate::data::Batch;
use crate::nn::Result;

/// What the model's head of [`Inference::task`] predicts for a batch of images of the model's size.
pub type Predict<'a> = dyn FnMut(&Batch) -> Result<Prediction> + 'a;

/// How a model, which takes images of the recipe's `image_size` only, predicts for images of other sizes.
#[typetag::serde(tag = "type")]
pub trait Inference: std::fmt::Debug + Send + Sync {
    /// Whose predictions it puts together. A recipe without such a head is refused; heads of other tasks
    /// predict without it.
    fn task(&self) -> TaskKind;

    /// Whether it fits the images of the model; asked before data is read.
    ///
    /// # Errors
    /// What does not fit, by its key within the component.
    fn check(&self, image: ImageShape) -> Result<(), Problem>;

    /// The prediction for a batch of images of any size: label maps as large as those of the targets
    /// (`target.semantic`), or as the images where there are none. `model` predicts for batches of images of
    /// the shape `image`.
    ///
    /// # Errors
    /// If the model fails, or its head does not tell what is put together.
    fn predict(&self, batch: &Batch, image: ImageShape, model: &mut Predict<'_>) -> Result<Prediction>;
}

slot_schema!(Inference);
