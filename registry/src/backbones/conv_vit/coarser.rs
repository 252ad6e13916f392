//! The level behind the last stage.

use convmae_framework::nn::layers::{BatchNorm, Conv2d, Window};
use convmae_framework::nn::ops::{self, Gelu, Sequential};
use convmae_framework::nn::{Context, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes a level of half the resolution out of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coarser {
    /// A 3x3 convolution with stride 2 and without padding, BatchNorm, GELU (`fpn` of the official
    /// segmentation backbone).
    Conv,
    /// The largest of 2x2 positions (`ms_adaptor` of the official detection backbone).
    MaxPool,
}

impl Coarser {
    /// Positions along each side that one of its own needs.
    pub fn kernel(self) -> usize {
        match self {
            Self::Conv => 3,
            Self::MaxPool => 2,
        }
    }

    fn window() -> Window {
        Window { stride: 2, ..Window::default() }
    }

    /// Positions along a side of what it makes of `side` positions.
    pub fn side(self, side: usize) -> usize {
        Self::window().output(side, self.kernel()).unwrap_or(0)
    }
}

/// A [`Coarser`] with its parameters.
pub(super) struct CoarserModule {
    kind: Coarser,
    conv: Option<(Conv2d, BatchNorm)>,
    grid: (usize, usize),
}

impl CoarserModule {
    /// On a grid of at least as many positions along each side as [`Coarser::kernel`] says.
    pub fn new(kind: Coarser, scope: &Scope, channels: usize, grid: (usize, usize)) -> Self {
        // Outside of the layers: the official layer decay counts it to the heads.
        let scope = scope.child("fpn");
        let conv = || {
            let conv = Conv2d::new(&scope.child(0), channels, channels, kind.kernel(), Coarser::window());
            (conv, BatchNorm::new(&scope.child(1), channels, 1e-5))
        };
        Self { kind, conv: (kind == Coarser::Conv).then(conv), grid }
    }

    /// Tokens of the grid, `[B, rows * cols, C]`, to `[B, side(rows) * side(cols), C]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        let x = ops::to_maps(x, self.grid, 1)?;
        ops::to_tokens(match &self.conv {
            Some((conv, norm)) => {
                Sequential::new().then(conv.clone()).then(norm.clone()).then(Gelu).forward(x, ctx)?
            }
            None => ops::max_pool2d(x, self.kind.kernel(), Coarser::window())?,
        })
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        let positions = self.kind.side(self.grid.0) * self.kind.side(self.grid.1);
        self.conv.as_ref().map_or(0, |(conv, _)| conv.macs(positions))
    }
}
