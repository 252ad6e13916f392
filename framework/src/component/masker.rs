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
    /// Masks per image, `M`: the model sees each image so many times.
    pub masks: usize,
    /// Tokens that each of them keeps, of [`MaskGrid::tokens`].
    pub kept: usize,
    /// Whether earlier stages have masks of their own, so that all patches have to be computed there.
    pub independent_stages: bool,
}

/// The masks of a batch of `B` images with `L` tokens each, `M` masks per image, which follow each other. A mask is
/// 1 where a patch is removed, as in the official code.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// The grid it was drawn on.
    pub grid: MaskGrid,
    /// Masks per image, `M`.
    pub masks: usize,
    /// Kept tokens per mask.
    pub kept: usize,
    /// `[B * M, kept]`: the kept tokens, in shuffled order.
    pub ids_keep: Vec<u32>,
    /// `[B * M, L]`: where each token of the grid is in the shuffled order (kept ones first).
    pub ids_restore: Vec<u32>,
    /// `[B * M, L]`: 0 is keep, 1 is remove.
    pub removed: Vec<f32>,
    /// For every earlier stage `[B * M, rows * cell, cols * cell]`, 0 is keep, 1 is remove; empty where earlier
    /// stages take the token mask, upsampled.
    pub stages: Vec<Vec<f32>>,
}

impl Mask {
    /// Masks from noise `[B, L]`, one per image: the `kept` tokens with the least noise stay (`random_masking` of the
    /// official code).
    pub fn from_noise(grid: &MaskGrid, kept: usize, noise: &[f32]) -> Self {
        let tokens = grid.tokens();
        let mut ids_restore = vec![0; noise.len()];
        for (noise, places) in noise.chunks_exact(tokens).zip(ids_restore.chunks_exact_mut(tokens)) {
            let mut shuffled: Vec<usize> = (0..tokens).collect();
            shuffled.sort_by(|&a, &b| noise[a].total_cmp(&noise[b]));
            shuffled.into_iter().zip(0..).for_each(|(token, place)| places[token] = place);
        }
        Self::from_places(grid, 1, kept, ids_restore)
    }

    /// `masks` per image from the place of each token in the shuffled order of each mask, `[B * masks, L]`
    /// ([`ids_restore`](Self::ids_restore)): the first `kept` stay.
    pub fn from_places(grid: &MaskGrid, masks: usize, kept: usize, ids_restore: Vec<u32>) -> Self {
        let tokens = grid.tokens();
        let mut ids_keep = vec![0; ids_restore.len() / tokens * kept];
        for (places, kept_tokens) in ids_restore.chunks_exact(tokens).zip(ids_keep.chunks_exact_mut(kept)) {
            for (token, &place) in (0..).zip(places) {
                if let Some(id) = kept_tokens.get_mut(place as usize) {
                    *id = token;
                }
            }
        }
        let removed = ids_restore.iter().map(|&place| f32::from(place as usize >= kept)).collect();
        Self { grid: grid.clone(), masks, kept, ids_keep, ids_restore, removed, stages: Vec::new() }
    }
}
