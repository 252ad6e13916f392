//! Attention of heads, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axes3, Axes4, Axes5, Axis};
use dfdx::tensor::TensorFromVec as _;
use dfdx::tensor_ops::{
    BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SelectTo as _, TryAdd as _, TryMatMul as _, TryMul as _,
};

use super::rows::{T2, T3, T4, dense, gather};
use crate::cpu::relative_position::index;
use crate::device;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::{Param, Tape};

/// `bias` is a table by relative position and its grid.
pub fn attention(qkv: Tensor, heads: usize, bias: Option<(&Param, (usize, usize))>) -> Result<Tensor> {
    let (batch, tokens, channels) = qkv.dims3()?;
    let (head_dim, tape) = (channels / 3 / heads, qkv.tape());
    let qkv =
        qkv.typed((batch, tokens, 3usize, heads, head_dim))?.try_permute::<_, Axes5<2, 0, 3, 1, 4>>()?;
    // Images and heads are one axis: one batch of products, not one for every image.
    let part = |index: usize| -> Result<T3> {
        let part: T4 = qkv.clone().try_select(device()?.try_tensor_from_vec(vec![index], ())?)?;
        Ok(part.try_reshape_like(&(batch * heads, tokens, head_dim))?)
    };
    let keys = part(1)?.try_permute::<_, Axes3<0, 2, 1>>()?;
    let mut scores: T3 = part(0)?.try_matmul(keys)?.try_mul((head_dim as f32).powf(-0.5))?;
    if let Some((table, grid)) = bias {
        let bias = biases(table, grid, &tape)?;
        let by_head = (batch, heads, tokens, tokens);
        let bias = bias.try_broadcast_like::<_, Axis<0>>(&by_head)?;
        let biased = scores.try_reshape_like(&by_head)?.try_add(bias)?;
        scores = biased.try_reshape_like(&(batch * heads, tokens, tokens))?;
    }
    let output: T3 = scores.try_softmax::<Axis<2>>()?.try_matmul(part(2)?)?;
    let output = output.try_reshape_like(&(batch, heads, tokens, head_dim))?;
    let output = dense(output.try_permute::<_, Axes4<0, 2, 1, 3>>()?)?;
    Tensor::from_typed(output)?.reshape((batch, tokens, channels / 3))
}

/// The biases of all scores, `[H, N, N]`.
fn biases(table: &Param, grid: (usize, usize), tape: &Tape) -> Result<T3> {
    let (offsets, heads) = (table.shape()[0], table.shape()[1]);
    let table: T2 = table.tensor(tape)?.try_reshape_like(&(offsets, heads))?;
    let tokens = grid.0 * grid.1;
    let by_head = dense(gather(table, &index(grid))?.try_permute::<_, Axes2<1, 0>>()?)?;
    Ok(by_head.try_reshape_like(&(heads, tokens, tokens))?)
}
