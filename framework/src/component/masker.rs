//! Maskers: which patches a backbone sees.

use super::Problem;
use super::registry::slot_schema;
use crate::nn::{Context, Result};

/// Draws masks.
#[typetag::serde(tag = "type")]
pub trait Masker: std::fmt::Debug + Send + Sync {
    /// How many tokens are kept, before any mask is drawn.
    fn plan(&self, grid: &MaskGrid) -> Result<MaskPlan, Problem>;

    /// Draws the masks of a batch. Uniform noise comes from [`Context::uniform`] (`noise`), so that it can be
    /// given.
    fn draw(&self, grid: &MaskGrid, batch: usize, ctx: &Context) -> Result<Mask>;
}

slot_schema!(Masker);

/// The token grid of a backbone, and the finer grids of its earlier stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskGrid {
    /// Rows of tokens.
    pub rows: usize,
    /// Columns of tokens.
    pub cols: usize,
    /// Positions along each side of a token's patch, for each earlier stage: `[4, 2]` for `ConvViT`.
    pub cells: Vec<usize>,
}

impl MaskGrid {
    /// The number of tokens, `L`.
    pub fn tokens(&self) -> usize {
        self.rows * self.cols
    }
}

/// What a masker will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskPlan {
    /// Tokens that are kept, of [`MaskGrid::tokens`].
    pub kept: usize,
    /// Whether earlier stages have masks of their own, so that all patches have to be computed there.
    pub independent_stages: bool,
}

/// The masks of a batch of `B` images with `L` tokens each. A mask is 1 where a patch is removed, as in the
/// official code.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// The grid it was drawn on.
    pub grid: MaskGrid,
    /// Kept tokens per image.
    pub kept: usize,
    /// `[B, kept]`: the kept tokens, in shuffled order.
    pub ids_keep: Vec<u32>,
    /// `[B, L]`: where each token of the grid is in the shuffled order (kept ones first).
    pub ids_restore: Vec<u32>,
    /// `[B, L]`: 0 is keep, 1 is remove.
    pub removed: Vec<f32>,
    /// For every earlier stage `[B, rows * cell, cols * cell]`, 0 is keep, 1 is remove; empty where earlier
    /// stages take the token mask, upsampled.
    pub stages: Vec<Vec<f32>>,
}

impl Mask {
    /// Masks from noise `[B, L]`: the `kept` tokens with the least noise stay (`random_masking` of the
    /// official code).
    pub fn from_noise(grid: &MaskGrid, kept: usize, noise: &[f32]) -> Self {
        let tokens = grid.tokens();
        let mut mask = Self {
            grid: grid.clone(),
            kept,
            ids_keep: Vec::with_capacity(noise.len() / tokens * kept),
            ids_restore: vec![0; noise.len()],
            removed: vec![1.0; noise.len()],
            stages: Vec::new(),
        };
        for (image, noise) in noise.chunks_exact(tokens).enumerate() {
            let mut shuffled: Vec<u32> = (0..tokens as u32).collect();
            shuffled.sort_by(|&a, &b| noise[a as usize].total_cmp(&noise[b as usize]));
            for (position, &token) in shuffled.iter().enumerate() {
                mask.ids_restore[image * tokens + token as usize] = position as u32;
                if position < kept {
                    mask.ids_keep.push(token);
                    mask.removed[image * tokens + token as usize] = 0.0;
                }
            }
        }
        mask
    }
}
