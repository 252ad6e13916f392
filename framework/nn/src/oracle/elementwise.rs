//! Sums and products, composed of dfdx's operations.

use dfdx::shapes::Axes2;
use dfdx::tensor_ops::{BroadcastTo as _, TryAdd as _, TryMul as _};

use super::rows::constant;
use crate::Param;
use crate::error::Result;
use crate::tensor::Tensor;

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

/// `drop_scale * gamma * x`, by channel `[C]` and by sample `[B]`.
pub fn scale_branch(x: Tensor, gamma: Option<&Param>, drop_scale: Option<&[f32]>) -> Result<Tensor> {
    let shape = x.dims3()?;
    let x = match gamma {
        Some(gamma) => {
            let gamma = gamma.tensor(&x.tape())?.try_broadcast_like::<_, Axes2<0, 1>>(&shape)?;
            Tensor::from_typed(x.typed(shape)?.try_mul(gamma)?)?
        }
        None => x,
    };
    match drop_scale {
        Some(factors) => scale_samples(x, factors.to_vec()),
        None => Ok(x),
    }
}

pub fn add(x: Tensor, y: Tensor) -> Result<Tensor> {
    let (shape, flat) = (x.shape(), (x.numel(),));
    Tensor::from_typed(x.typed(flat)?.try_add(y.typed(flat)?)?)?.reshape(shape)
}
