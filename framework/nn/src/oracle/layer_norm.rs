//! Layer normalisation, composed of dfdx's operations.

use dfdx::shapes::Axis;
use dfdx::tensor::Merge as _;
use dfdx::tensor_ops::{BroadcastTo as _, TryAdd as _, TryMul as _};

use super::NormParams;
use crate::Tape;
use crate::tensor::{Result, Tensor};

pub fn layer_norm(x: Tensor, params: NormParams<'_>, tape: &Tape) -> Result<Tensor> {
    let NormParams { weight, bias, eps } = params;
    let (shape, channels) = (x.shape(), weight.numel());
    let rows = (shape.numel() / channels, channels);
    let tape = x.tape().merge(tape.clone());
    let weight = weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
    let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
    let x = x.typed(rows)?;
    Tensor::from_typed(x.try_normalize::<Axis<1>>(eps)?.try_mul(weight)?.try_add(bias)?)?.reshape(shape)
}
