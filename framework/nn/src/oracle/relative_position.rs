//! Biases by relative position, composed of dfdx's operations.

use dfdx::shapes::{Axes2, HasShape as _};
use dfdx::tensor_ops::{PermuteTo as _, ReshapeTo as _};

use super::RelativePositionBias;
use crate::Tape;
use crate::backend::relative_position::index;
use super::rows::{T2, dense, gather};
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
