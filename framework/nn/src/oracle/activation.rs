//! Activations, composed of dfdx's operations.

use dfdx::tensor::NoneTape;
use dfdx::tensor_ops::{ChooseFrom as _, TryAdd as _, TryDiv as _, TryLt as _, TryMul as _, TrySub as _};

use crate::error::Result;
use crate::tensor::Tensor;

/// dfdx's own operation has a wrong derivative: its normal density is too large by a factor of sqrt(2). So this one
/// is `x * slope + rest`, where `slope`, the right derivative, and `rest` are constants to the tape.
pub fn gelu(x: Tensor) -> Result<Tensor> {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let shape = x.shape();
    let x = x.typed((shape.numel(),))?;
    let constant = x.retaped::<NoneTape>();
    let value = constant.clone().try_accurate_gelu()?;
    // `value / x` is the probability, except where x is too small to divide by: there its series has two terms.
    let quotient = value.clone().try_div(constant.clone())?;
    let series = constant.clone().try_mul(DENSITY_AT_ZERO)?.try_add(0.5)?;
    let probability = constant.clone().try_abs()?.try_lt(0.01)?.try_choose(series, quotient)?;
    let bell = constant.clone().try_square()?.try_mul(-0.5)?.try_exp()?;
    let slope = constant.clone().try_mul(bell)?.try_mul(DENSITY_AT_ZERO)?.try_add(probability)?;
    let rest = value.try_sub(constant.try_mul(slope.clone())?)?;
    Tensor::from_typed(x.try_mul(slope)?.try_add(rest)?)?.reshape(shape)
}

pub fn relu(x: Tensor) -> Result<Tensor> {
    let shape = x.shape();
    Tensor::from_typed(x.typed((shape.numel(),))?.try_relu()?)?.reshape(shape)
}
