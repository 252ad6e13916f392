//! Necks: features to features.

use super::Problem;
use super::registry::slot_schema;
use super::{Features, ImageShape, LevelShape, Macs};
use crate::nn::{Context, Result, Scope};

/// A neck, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Neck: std::fmt::Debug + Send + Sync {
    /// Creates the parameters (none are allocated in a describing scope) and answers for the shapes.
    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        levels: &[LevelShape],
    ) -> Result<Box<dyn NeckModule>, Problem>;
}

slot_schema!(Neck);

/// A built neck.
pub trait NeckModule {
    /// The maps that [`forward`](Self::forward) yields, in order.
    fn levels(&self) -> Vec<LevelShape>;

    /// Multiply-adds of one image's forward, under one mask where features are masked.
    fn macs(&self) -> Macs;

    /// Features to features.
    fn forward(&self, features: &Features, ctx: &Context) -> Result<Features>;
}
