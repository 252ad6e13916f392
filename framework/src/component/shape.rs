//! Shapes and multiply-adds, known before anything is allocated.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

/// Channels, height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ImageShape {
    /// Colour channels.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.channels, self.height, self.width)
    }
}

/// The shape of one map of features.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LevelShape {
    /// Its name, for `from: backbone.s2`.
    pub name: String,
    /// Rows of patches (tokens of the last stage).
    pub rows: usize,
    /// Columns of patches.
    pub cols: usize,
    /// Patches present, `rows * cols` unless masked.
    pub kept: usize,
    /// Positions along each side of a patch: 4, 2, 1 for the stages of `ConvViT`.
    pub cell: usize,
    /// Tokens before the patches (1 with a cls token).
    pub prefix_tokens: usize,
    /// Channels, `C`.
    pub channels: usize,
    /// Pixels of the image per position.
    pub stride: usize,
}

impl LevelShape {
    /// Tokens per image, `N = prefix + kept * cell * cell`.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens + self.positions()
    }

    /// Positions of the image per image, `kept * cell * cell`.
    pub fn positions(&self) -> usize {
        self.kept * self.cell * self.cell
    }
}

/// Multiply-adds of one image's forward: convolutions and matrix products, as PyTorch's flop counter counts
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Macs {
    /// As they are computed here: masked positions left out.
    pub computed: u64,
    /// As ConvMAE computes them: convolutional stages on the whole image, once for each mask.
    pub dense: u64,
}

impl Macs {
    /// The same with and without sparse computation.
    pub fn same(macs: u64) -> Self {
        Self { computed: macs, dense: macs }
    }
}

impl Add for Macs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { computed: self.computed + other.computed, dense: self.dense + other.dense }
    }
}

impl Mul<u64> for Macs {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self { computed: times * self.computed, dense: times * self.dense }
    }
}

impl Sum for Macs {
    fn sum<I: Iterator<Item = Self>>(macs: I) -> Self {
        macs.fold(Self::default(), Add::add)
    }
}
