//! A linear layer, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

use super::rows::T2;
use crate::error::Result;
use crate::layers::Linear;
use crate::tensor::Tensor;

pub fn linear(x: Tensor, linear: &Linear) -> Result<Tensor> {
    let Linear { weight, bias } = linear;
    let (shape, outputs) = (x.shape(), weight.shape()[0]);
    let inputs = weight.numel() / outputs;
    let count = shape.numel() / inputs;
    let tape = x.tape();
    let weight = weight.tensor(&tape)?.try_reshape_like(&(outputs, inputs))?;
    // One product: the backward of a batched one goes through the batch one by one.
    let mut y: T2 = x.typed((count, inputs))?.try_matmul(weight.try_permute::<_, Axes2<1, 0>>()?)?;
    if let Some(bias) = bias {
        y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(count, outputs))?)?;
    }
    Tensor::from_typed(y)?.reshape(shape.with_last(outputs))
}
