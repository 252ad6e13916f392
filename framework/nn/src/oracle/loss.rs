//! The masked squared error, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor_ops::{MeanTo as _, SumTo as _, TryMul as _, TrySub as _};

use super::rows::{T0, T2, constant};
use crate::error::Result;
use crate::tensor::Tensor;

pub fn masked_mse(pred: Tensor, target: Vec<f32>, removed: &[f32]) -> Result<Tensor> {
    let (batch, patches, width) = pred.dims3()?;
    let pred = pred.typed((batch, patches, width))?;
    let target = constant(target, (batch, patches, width))?;
    let errors: T2 = pred.try_sub(target)?.try_square()?.try_mean::<_, Axis<2>>()?;
    let total: f32 = removed.iter().sum();
    let weights = removed.iter().map(|weight| weight / total).collect();
    let loss: T0 = errors.try_mul(constant(weights, (batch, patches))?)?.try_sum::<_, Axes2<0, 1>>()?;
    Tensor::from_typed(loss)
}
