//! The downsampling level of the segmentation backbone.

use convmae_framework::nn::layers::{BatchNorm, Conv2d, Window};
use convmae_framework::nn::ops::{self, Gelu, Sequential};
use convmae_framework::nn::{Context, Result, Scope, Tensor};

/// A 3x3 convolution with stride 2 and no padding, batch normalisation, GELU (`fpn` of the official
/// segmentation backbone).
pub(super) struct Fpn {
    conv: Conv2d,
    norm: BatchNorm,
    grid: (usize, usize),
}

impl Fpn {
    /// On a grid of at least 3 x 3 tokens.
    pub fn new(scope: &Scope, channels: usize, grid: (usize, usize)) -> Self {
        let window = Window { stride: 2, ..Window::default() };
        Self {
            conv: Conv2d::new(&scope.child(0), channels, channels, 3, window),
            norm: BatchNorm::new(&scope.child(1), channels, 1e-5),
            grid,
        }
    }

    /// Positions along a side of what it makes of `side` positions.
    pub fn side(side: usize) -> usize {
        side.saturating_sub(1) / 2
    }

    /// Tokens of the grid, `[B, rows * cols, C]`, to `[B, side(rows) * side(cols), C]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        let x = ops::to_maps(x, self.grid, 1)?;
        let layers = Sequential::new().then(self.conv.clone()).then(self.norm.clone()).then(Gelu);
        ops::to_tokens(layers.forward(x, ctx)?)
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        self.conv.macs(Self::side(self.grid.0) * Self::side(self.grid.1))
    }
}
