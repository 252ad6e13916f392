//! The reconstruction loss.

use dfdx::shapes::HasShape as _;

pub use crate::nn::kernels::loss::normalize_patches;
use crate::nn::tensor::{Error, Result, T0, T3};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The mean squared error of the removed patches (`forward_loss` of the official `models_convmae.py`).
///
/// `pred` and `target` are `[B, L, P]`; `removed`, `[B, L]`, is 1 where a patch was removed and 0 where it was kept. The squared
/// errors are averaged over each patch, then over the removed patches of the whole batch.
///
/// # Errors
/// If the shapes do not fit, or no patch is removed.
pub fn masked_mse(pred: T3, target: Vec<f32>, removed: &[f32]) -> Result<T0> {
    let (batch, patches, width) = *pred.shape();
    if (target.len(), removed.len()) != (batch * patches * width, batch * patches) {
        return Err(Error::Shape(format!(
            "a prediction {:?} does not fit {} target values with {} mask values",
            pred.shape(),
            target.len(),
            removed.len()
        )));
    }
    if removed.iter().all(|&weight| weight == 0.0) {
        return Err(Error::Value("no patch is removed, so there is nothing to reconstruct".into()));
    }
    implementation::masked_mse(pred, target, removed)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::HasShape as _;

    use crate::nn::kernels::loss;
    use crate::nn::ops::{flat, operation};
    use crate::nn::tensor::{Result, T0, T3};

    pub fn masked_mse(pred: T3, target: Vec<f32>, removed: &[f32]) -> Result<T0> {
        let width = pred.shape().2;
        let removed = removed.to_vec();
        operation(vec![flat(pred)?], (), move |mut inputs, record| {
            let pred = inputs.swap_remove(0);
            let value = loss::masked_mse(&pred, &target, &removed, width);
            let backward =
                move |grad: &[f32]| vec![loss::masked_mse_grad(&pred, &target, &removed, width, grad[0])];
            Ok((vec![value], record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes2, Axis, HasShape as _};
    use dfdx::tensor_ops::{MeanTo as _, SumTo as _, TryMul as _, TrySub as _};

    use crate::nn::tensor::{Result, T0, T2, T3, from_vec, tape_of};

    pub fn masked_mse(pred: T3, target: Vec<f32>, removed: &[f32]) -> Result<T0> {
        let (batch, patches, width) = *pred.shape();
        let tape = tape_of(&pred);
        let target = from_vec(target, (batch, patches, width), &tape)?;
        let errors: T2 = pred.try_sub(target)?.try_square()?.try_mean::<_, Axis<2>>()?;
        let total: f32 = removed.iter().sum();
        let weights = removed.iter().map(|weight| weight / total).collect();
        Ok(errors.try_mul(from_vec(weights, (batch, patches), &tape)?)?.try_sum::<_, Axes2<0, 1>>()?)
    }
}
