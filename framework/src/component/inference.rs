//! Inference: how a model is shown images of other sizes than its own.

use super::registry::slot_schema;
use super::{ImageShape, Predictions, Problem};
use crate::data::Batch;
use crate::nn::Result;

/// The predictions of a model's heads, by node, for a batch of images of its size.
pub type Predict<'a> = dyn FnMut(&Batch) -> Result<Vec<(String, Predictions)>> + 'a;

/// How a model, which takes images of the recipe's `image_size` only, predicts for images of other sizes.
#[typetag::serde(tag = "type")]
pub trait Inference: std::fmt::Debug + Send + Sync {
    /// Whether it fits the images of the model; asked before data is read.
    ///
    /// # Errors
    /// What does not fit, by its key within the component.
    fn check(&self, image: ImageShape) -> Result<(), Problem>;

    /// The predictions for a batch of images of any size, as large as their label maps (`target.semantic`),
    /// or as the images where there are none. Only what it combines is in the answer: `semantic`, from the
    /// `semantic_logits` of the first head that has them. `model` predicts for batches of images of the shape
    /// `image`.
    ///
    /// # Errors
    /// If the model fails, no head predicts what is combined, or the label maps of one batch differ in size.
    fn predict(
        &self,
        batch: &Batch,
        image: ImageShape,
        model: &mut Predict<'_>,
    ) -> Result<Vec<(String, Predictions)>>;
}

slot_schema!(Inference);
