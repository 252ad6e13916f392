//! Multiply-adds of a forward pass.

use std::iter::Sum;
use std::ops::Add;

/// Multiply-adds of one image's forward: convolutions and matrix products, as PyTorch's flop counter counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Macs {
    /// As they are computed here: masked positions left out.
    pub computed: u64,
    /// As the official code computes them: convolutional stages on the whole image.
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

impl Sum for Macs {
    fn sum<I: Iterator<Item = Self>>(macs: I) -> Self {
        macs.fold(Self::default(), Add::add)
    }
}
