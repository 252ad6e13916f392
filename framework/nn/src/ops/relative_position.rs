//! Biases of attention scores by relative position.

use crate::Param;
use crate::kernels::relative_position::offsets;
use crate::tensor::{Error, Result};

/// A learned bias of the attention scores for every offset between two positions of a grid (Swin, `BEiT`).
#[derive(Debug, Clone, Copy)]
pub struct RelativePositionBias<'a> {
    /// `[(2 R - 1)(2 C - 1), H]`.
    pub table: &'a Param,
    /// Rows and columns of the grid.
    pub grid: (usize, usize),
}

impl RelativePositionBias<'_> {
    /// That it is for that many tokens and heads.
    pub(super) fn check(&self, tokens: usize, heads: usize) -> Result<()> {
        let (rows, cols) = self.grid;
        if rows * cols != tokens || self.table.shape() != [offsets(self.grid), heads] {
            return Err(Error::Shape(format!(
                "{}: biases {:?} of a grid of {rows} x {cols} for {heads} heads and {tokens} tokens",
                self.table.name(),
                self.table.shape()
            )));
        }
        super::check_allocated(self.table)
    }
}

#[cfg(any(test, feature = "cuda"))]
pub(super) mod composed {
    use dfdx::shapes::{Axes2, HasShape as _};
    use dfdx::tensor_ops::{PermuteTo as _, ReshapeTo as _};

    use super::RelativePositionBias;
    use crate::Tape;
    use crate::kernels::relative_position::index;
    use crate::ops::rows::{T2, dense, gather};
    use crate::tensor::{Result, Tensor};

    /// The biases of all scores, `[H, N, N]`.
    pub fn biases(bias: RelativePositionBias<'_>, tape: &Tape) -> Result<Tensor> {
        let (offsets, heads) = (bias.table.shape()[0], bias.table.shape()[1]);
        let table: T2 = bias.table.tensor(tape)?.try_reshape_like(&(offsets, heads))?;
        let tokens = bias.grid.0 * bias.grid.1;
        let by_head = dense(gather(table, &index(bias.grid))?.try_permute::<_, Axes2<1, 0>>()?)?;
        debug_assert_eq!(*by_head.shape(), (heads, tokens * tokens));
        Tensor::from_typed(by_head)?.reshape((heads, tokens, tokens))
    }
}
