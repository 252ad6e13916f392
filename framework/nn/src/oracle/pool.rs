//! The mean over tokens, composed of dfdx's operations.

use dfdx::shapes::Axis;
use dfdx::tensor_ops::MeanTo as _;

use super::rows::T2;
use crate::error::Result;
use crate::tensor::Tensor;

pub fn mean_tokens(x: Tensor) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    let mean: T2 = x.typed((batch, tokens, channels))?.try_mean::<_, Axis<1>>()?;
    Tensor::from_typed(mean)?.reshape((batch, 1, channels))
}
