//! Heads: features to losses and predictions.

use std::collections::BTreeMap;

use super::Problem;
use super::registry::slot_schema;
use super::{Features, ImageShape, LevelShape, Macs, MaskGrid};
use crate::data::Batch;
use crate::nn::{Context, Result, Scope, Tensor};

/// A head, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Head: std::fmt::Debug + Send + Sync {
    /// Classes that it tells apart, if that is its task: as many as the datasets have.
    fn num_classes(&self) -> Option<usize> {
        None
    }

    /// Classes of pixels that it tells apart, if that is its task: as many as the label maps of the datasets have.
    fn pixel_classes(&self) -> Option<usize> {
        None
    }

    /// Whether it predicts; an auxiliary head only helps to train.
    fn predicts(&self) -> bool {
        true
    }

    /// Creates the parameters (none are allocated in a describing scope) and answers for the shapes.
    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem>;
}

slot_schema!(Head);

/// What a head is connected to.
#[derive(Debug, Clone)]
pub struct HeadInputs {
    /// The images of the model.
    pub image: ImageShape,
    /// The maps it gets.
    pub levels: Vec<LevelShape>,
    /// The grid of the mask, if the features are masked.
    pub mask: Option<MaskGrid>,
}

/// A built head.
pub trait HeadModule {
    /// Multiply-adds of one image's forward.
    fn macs(&self) -> Macs;

    /// The losses of a batch.
    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>>;

    /// The predictions for a batch.
    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Predictions>;

    /// Pictures for the report, a row per image, if the head has something to show.
    fn pictures(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Vec<Vec<Picture>>> {
        let _ = (features, batch, ctx);
        Ok(Vec::new())
    }
}

/// A named, weighted loss; or a figure that is only shown, with the weight 0.
pub struct Loss {
    /// Its name in the metrics.
    pub name: String,
    /// Its factor in the total.
    pub weight: f32,
    /// Its value, on the tape.
    pub value: Tensor,
}

impl Loss {
    /// The weighted sum of losses; none if there is no loss with a weight.
    ///
    /// # Errors
    /// If two losses differ in their shapes.
    pub fn total(losses: Vec<Self>) -> Result<Option<Tensor>> {
        let losses = losses.into_iter().filter(|loss| loss.weight != 0.0);
        losses.map(|loss| loss.value * loss.weight).reduce(|total, loss| total? + loss?).transpose()
    }
}

/// Named arrays, by what they are:
///
/// * `logits`, `[B, K]`: of the classes of an image;
/// * `reconstruction`, `[B, C, H, W]`: normalised pixels; `removed`, `[B, L]`: 1 where a patch was masked;
/// * `semantic_logits`, `[B, H, W, K]`: of the classes of a pixel, channels last, as large as the model's images;
/// * `semantic`, `[B, H, W]`: the index of the class of every pixel, a whole number from 0 to 254: the largest of the
///   `semantic_logits`, or, where the recipe states an `inference`, what that makes of them, as large as the label maps of the batch.
#[derive(Debug, Clone, Default)]
pub struct Predictions {
    /// Shape and values (row-major) by name.
    pub arrays: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Predictions {
    /// Shape and values of an array, of the first head that has it.
    pub fn find<'a>(heads: &'a [(String, Self)], name: &str) -> Option<(&'a [usize], &'a [f32])> {
        let array = heads.iter().find_map(|(_, found)| found.arrays.get(name));
        array.map(|(shape, values)| (shape.as_slice(), values.as_slice()))
    }
}

/// A picture for the report.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its caption: `masked`, `reconstruction`, `original`.
    pub caption: String,
    /// Its pixels.
    pub image: image::RgbImage,
}
