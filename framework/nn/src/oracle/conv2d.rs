//! A convolution of maps, composed of dfdx's operations.

use dfdx::shapes::{Axes3, Axis};
use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

use super::rows::{T2, T3, dense, gather_taps};
use crate::backend::conv2d::Conv2d as Size;
use crate::error::Result;
use crate::layers::Conv2d;
use crate::tensor::Tensor;

/// Holds what all taps read: `k * k` times the input.
pub fn conv2d(x: Tensor, conv: &Conv2d, size: Size) -> Result<Tensor> {
    let Size { batch, input, output, in_channels, out_channels, kernel, .. } = size;
    let tape = x.tape();
    let taps = kernel * kernel;
    let positions = batch * output[0] * output[1];
    let x = x.typed((batch * input[0] * input[1], in_channels))?;
    let read = gather_taps(x, &size.sources(), taps)?;
    let read: T2 = read.try_reshape_like(&(positions, taps * in_channels))?;
    let weight: T3 = conv.weight.tensor(&tape)?.try_reshape_like(&(out_channels, in_channels, taps))?;
    let weight = dense(weight.try_permute::<_, Axes3<2, 1, 0>>()?)?;
    let weight: T2 = weight.try_reshape_like(&(taps * in_channels, out_channels))?;
    let mut y: T2 = read.try_matmul(weight)?;
    if let Some(bias) = &conv.bias {
        let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(positions, out_channels))?;
        y = y.try_add(bias)?;
    }
    Tensor::from_typed(y)?.reshape((batch, output[0], output[1], out_channels))
}
