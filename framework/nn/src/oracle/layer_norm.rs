//! Layer normalisation, composed of dfdx's operations.

use dfdx::shapes::Axis;
use dfdx::tensor_ops::{BroadcastTo as _, TryAdd as _, TryMul as _};

use crate::error::Result;
use crate::layers::LayerNorm;
use crate::tensor::Tensor;

pub fn layer_norm(x: Tensor, norm: &LayerNorm) -> Result<Tensor> {
    let LayerNorm { weight, bias, eps } = norm;
    let (shape, channels) = (x.shape(), weight.numel());
    let rows = (shape.numel() / channels, channels);
    let tape = x.tape();
    let weight = weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
    let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
    let x = x.typed(rows)?;
    Tensor::from_typed(x.try_normalize::<Axis<1>>(*eps)?.try_mul(weight)?.try_add(bias)?)?.reshape(shape)
}
