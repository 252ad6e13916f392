//! A linear layer, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor::Merge as _;
use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

use super::LinearParams;
use crate::Tape;
use super::rows::T2;
use crate::tensor::{Result, Tensor};

pub fn linear(x: Tensor, outputs: usize, params: LinearParams<'_>, tape: &Tape) -> Result<Tensor> {
    let LinearParams { weight, bias } = params;
    let (shape, inputs) = (x.shape(), weight.numel() / outputs);
    let count = shape.numel() / inputs;
    let tape = x.tape().merge(tape.clone());
    let weight = weight.tensor(&tape)?.try_reshape_like(&(outputs, inputs))?;
    // One product: the backward of a batched one goes through the batch one by one.
    let mut y: T2 = x.typed((count, inputs))?.try_matmul(weight.try_permute::<_, Axes2<1, 0>>()?)?;
    if let Some(bias) = bias {
        y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(count, outputs))?)?;
    }
    Tensor::from_typed(y)?.reshape(shape.with_last(outputs))
}

pub fn linear_rows(
    rows: Vec<f32>,
    (batch, tokens, outputs): (usize, usize, usize),
    params: LinearParams<'_>,
    tape: &Tape,
) -> Result<Tensor> {
    let inputs = rows.len() / (batch * tokens).max(1);
    linear(Tensor::from_vec(rows, (batch, tokens, inputs), &Tape::none())?, outputs, params, tape)
}
