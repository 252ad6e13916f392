//! A depthwise convolution of patch-sparse features, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor_ops::{
    BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SumTo as _, TryAdd as _, TryMul as _,
};

use super::rows::{T2, constant, gather_taps};
use crate::PatchLayout;
use crate::backend::depthwise::Depthwise;
use crate::error::Result;
use crate::layers::DepthwiseConv2d;
use crate::tensor::Tensor;

/// Holds what all taps read: `K * K` times the features.
pub fn depthwise(
    x: Tensor,
    conv: &DepthwiseConv2d,
    layout: &PatchLayout,
    visible: Option<&[f32]>,
) -> Result<Tensor> {
    let DepthwiseConv2d { weight, bias } = conv;
    let (batch, positions, channels) = x.dims3()?;
    let tape = x.tape();
    let rows = batch * positions;
    let mut x = x.typed((rows, channels))?;
    if let Some(visible) = visible {
        let visible = constant(visible.to_vec(), (rows,))?;
        x = x.try_mul(visible.try_broadcast_like::<_, Axis<1>>(&(rows, channels))?)?;
    }
    let kernel = weight.shape()[3];
    let taps = kernel * kernel;
    let sources = Depthwise { layout, channels, kernel }.sources();
    let read = gather_taps(x, &sources, taps)?;
    let weight: T2 = weight.tensor(&tape)?.try_reshape_like(&(channels, taps))?;
    let weight = weight.try_permute::<_, Axes2<1, 0>>()?;
    let weight = weight.try_broadcast_like::<_, Axis<0>>(&(rows, taps, channels))?;
    let output: T2 = read.try_mul(weight)?.try_sum::<_, Axis<1>>()?;
    let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(rows, channels))?;
    Tensor::from_typed(output.try_add(bias)?)?.reshape((batch, positions, channels))
}
