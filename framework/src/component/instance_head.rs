//! Instance heads: features, and the regions of the head before them, to losses and regions.

use super::registry::slot_schema;
use super::{Features, ImageShape, LevelShape, Loss, Macs, Problem, Regions};
use crate::data::Batch;
use crate::nn::{Context, Result, Scope};

/// A head of object detection, as the recipe states it: a link of a chain that proposes regions, tells the
/// classes of their objects, and the masks of these (Mask R-CNN). The regions of the last one are what the
/// model detects. `loss_weight` and `auxiliary` are keys of every head: the graph reads them.
#[typetag::serde(tag = "type")]
pub trait InstanceHead: std::fmt::Debug + Send + Sync {
    /// How many classes it tells apart, as many as the datasets have; none if it tells objects from
    /// background alone.
    fn classes(&self) -> Option<usize>;

    /// Creates the parameters (none are allocated in a describing scope) and answers for the shapes.
    fn build(
        &self,
        scope: &Scope,
        inputs: &InstanceHeadInputs,
    ) -> Result<Box<dyn InstanceHeadModule>, Problem>;
}

slot_schema!(InstanceHead);

/// What an instance head is connected to.
#[derive(Debug, Clone)]
pub struct InstanceHeadInputs {
    /// The images of the model.
    pub image: ImageShape,
    /// The maps it gets.
    pub levels: Vec<LevelShape>,
    /// How many regions of an image it gets in evaluation at most, if an instance head comes before it.
    pub regions: Option<usize>,
}

/// A built instance head.
pub trait InstanceHeadModule {
    /// How many regions of an image it yields in evaluation at most.
    fn regions(&self) -> usize;

    /// Multiply-adds of one image's forward in evaluation, at as many regions as there are at most.
    fn macs(&self) -> Macs;

    /// Regions of a batch, from the features and the regions of the head before it.
    ///
    /// In training (`ctx.training`) with the losses, and the regions are those it was trained on; in
    /// evaluation without losses. No gradient flows through regions.
    fn forward(
        &self,
        features: &Features,
        given: Option<&[Regions]>,
        batch: &Batch,
        ctx: &Context,
    ) -> Result<Found>;
}

/// What an instance head yields for a batch of `B` images.
#[derive(Clone, Default)]
pub struct Found {
    /// The losses, in training.
    pub losses: Vec<Loss>,
    /// The regions of every image, `[B]`.
    pub regions: Vec<Regions>,
}
