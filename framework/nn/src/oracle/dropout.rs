//! Sums and products, composed of dfdx's operations.

use dfdx::shapes::Axes2;
use dfdx::tensor_ops::{BroadcastTo as _, TryMul as _};

use super::rows::constant;
use crate::tensor::{Result, Tensor};

pub fn dropout(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let shape = x.shape();
    let factors = constant(factors, (shape.numel(),))?;
    Tensor::from_typed(x.typed((shape.numel(),))?.try_mul(factors)?)?.reshape(shape)
}

pub fn scale_samples(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let shape = x.dims3()?;
    let factors = constant(factors, (shape.0,))?.try_broadcast_like::<_, Axes2<1, 2>>(&shape)?;
    Tensor::from_typed(x.typed(shape)?.try_mul(factors)?)
}

pub fn scale_channels(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let shape = x.dims4()?;
    let factors = constant(factors, (shape.0, shape.3))?.try_broadcast_like::<_, Axes2<1, 2>>(&shape)?;
    Tensor::from_typed(x.typed(shape)?.try_mul(factors)?)
}

pub fn scale(x: Tensor, factor: f32) -> Result<Tensor> {
    let shape = x.shape();
    Tensor::from_typed(x.typed((shape.numel(),))?.try_mul(factor)?)?.reshape(shape)
}
