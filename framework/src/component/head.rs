//! Heads: features to losses and predictions.

use image::RgbImage;

use super::registry::slot_schema;
use super::{Features, ImageShape, LevelShape, Macs, MaskGrid, Prediction, Problem, Task};
use crate::data::{Batch, Target};
use crate::nn::{Context, Result, Scope, Tensor};

/// A head, as the recipe states it. `loss_weight` and `auxiliary` are keys of every head: the graph reads
/// them.
#[typetag::serde(tag = "type")]
pub trait Head: std::fmt::Debug + Send + Sync {
    /// What it predicts.
    fn task(&self) -> Task;

    /// Adds to the target of an example image, number `index` of a batch, what the head is trained on:
    /// `bench` trains on such images. Other heads may have added theirs.
    fn example(&self, index: usize, image: ImageShape, target: &mut Target) {
        self.task().example(index, image, target);
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
    /// Multiply-adds of one image's forward, under one mask where features are masked.
    fn macs(&self) -> Macs;

    /// The losses of a batch.
    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Vec<Loss>>;

    /// What it predicts for a batch: that of its [`Task`].
    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> Result<Prediction>;

    /// Pictures for the report, a row per image, if the head has something to show. `names` are those of the classes of its
    /// task, none if they are not known.
    fn pictures(
        &self,
        features: &Features,
        batch: &Batch,
        names: &[String],
        ctx: &Context,
    ) -> Result<Vec<Vec<Picture>>> {
        let _ = (features, batch, names, ctx);
        Ok(Vec::new())
    }
}

/// A named loss; or a figure that is only shown, with the weight 0.
#[derive(Clone)]
pub struct Loss {
    /// Its name in the metrics.
    pub name: String,
    /// Its factor in the total, beside the `loss_weight` that the recipe states for the head.
    pub weight: f32,
    /// Its value, on the tape.
    pub value: Tensor,
}

impl Loss {
    /// A loss that counts as it is.
    pub fn new(name: &str, value: Tensor) -> Self {
        Self { name: name.to_owned(), weight: 1.0, value }
    }

    /// The weighted sum of losses; none if there is no loss with a weight.
    ///
    /// # Errors
    /// If two losses differ in their shapes.
    pub fn total(losses: Vec<Self>) -> Result<Option<Tensor>> {
        let losses = losses.into_iter().filter(|loss| loss.weight != 0.0);
        losses.map(|loss| loss.value * loss.weight).reduce(|total, loss| total? + loss?).transpose()
    }
}

/// A picture for the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// What is shown, the same for every image: `masked`, `reconstruction`, `original`.
    pub caption: String,
    /// What there is to say of this image, nothing if empty: `cat 93.1 %, truth: dog`.
    pub note: String,
    /// Its pixels.
    pub image: RgbImage,
    /// The same where what is predicted is all that is shown, if `image` borrows of the truth: the mean and the deviation of
    /// every hidden patch.
    pub unborrowed: Option<RgbImage>,
}

impl Picture {
    /// A picture of which there is nothing else to say.
    pub fn new(caption: impl Into<String>, image: RgbImage) -> Self {
        Self { caption: caption.into(), note: String::new(), image, unborrowed: None }
    }
}
