//! Backbones: images to features.

use std::rc::Rc;

use super::Problem;
use super::registry::slot_schema;
use super::{ImageShape, LevelShape, Macs, Mask, MaskGrid, MaskPlan};
use crate::nn::{Context, Error, Images, Result, Scope, Tensor, ops};

/// A backbone, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Backbone: std::fmt::Debug + Send + Sync {
    /// The token grid on which a masker draws.
    fn mask_grid(&self, image: ImageShape) -> Result<MaskGrid, Problem>;

    /// The names of the parameters of each block, in order, with those of what stands between it and the block
    /// before; `*` stands for any characters. So many of the first as `frozen: 2` says are kept; a backbone
    /// without blocks has none.
    fn blocks(&self) -> Vec<Vec<String>> {
        Vec::new()
    }

    /// Creates the parameters (none are allocated in a describing scope) and answers for the shapes.
    fn build(
        &self,
        scope: &Scope,
        image: ImageShape,
        mask: Option<&MaskPlan>,
    ) -> Result<Box<dyn BackboneModule>, Problem>;
}

slot_schema!(Backbone);

/// A built backbone.
pub trait BackboneModule {
    /// The maps that [`forward`](Self::forward) yields, in order.
    fn levels(&self) -> Vec<LevelShape>;

    /// Multiply-adds of one image's forward under one mask, as they are computed (masked positions left out).
    fn macs(&self) -> Macs;

    /// Images `[B, C, H, W]` to features, of each image under each of its masks.
    fn forward(&self, images: &Images, mask: Option<&Rc<Mask>>, ctx: &Context) -> Result<Features>;
}

/// One map of features.
#[derive(Debug, Clone)]
pub struct Level {
    /// Its shape.
    pub shape: LevelShape,
    /// `[B, N, C]`: prefix tokens, then for every kept patch its `cell * cell` positions; `[B * M, N, C]` under `M`
    /// masks per image, those of an image following each other.
    pub tokens: Tensor,
}

impl Level {
    /// Its positions in the order of the image, channels last: `[B, rows * cell, cols * cell, C]`. Without
    /// prefix tokens.
    ///
    /// # Errors
    /// If patches are masked.
    pub fn maps(&self) -> Result<Tensor> {
        let LevelShape { name, rows, cols, kept, cell, prefix_tokens, .. } = &self.shape;
        if *kept != rows * cols {
            return Err(Error::Shape(format!("level `{name}` holds {kept} of {} patches", rows * cols)));
        }
        ops::to_maps(ops::drop_prefix(self.tokens.clone(), *prefix_tokens)?, (*rows, *cols), *cell)
    }
}

/// What a backbone or neck yields.
#[derive(Debug, Clone)]
pub struct Features {
    /// The maps, finest first.
    pub levels: Vec<Level>,
    /// The mask under which they were computed.
    pub mask: Option<Rc<Mask>>,
}
