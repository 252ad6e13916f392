//! The sum of a residual connection.

use dfdx::shapes::{HasShape as _, Shape};

use crate::nn::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `x + y`, of the same shape.
///
/// # Errors
/// If the shapes differ.
pub fn add<S: Shape>(x: Tensor<S>, y: Tensor<S>) -> Result<Tensor<S>> {
    if x.shape() != y.shape() {
        return Err(Error::Shape(format!("cannot add {:?} and {:?}", x.shape(), y.shape())));
    }
    implementation::add(x, y)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::{HasShape as _, Shape};

    use crate::nn::kernels::elementwise;
    use crate::nn::ops::{flat, operation};
    use crate::nn::tensor::{Result, Tensor};

    pub fn add<S: Shape>(x: Tensor<S>, y: Tensor<S>) -> Result<Tensor<S>> {
        let shape = *x.shape();
        operation(vec![flat(x)?, flat(y)?], shape, |mut values, record| {
            let y = values.swap_remove(1);
            let mut sum = values.swap_remove(0);
            elementwise::add_assign(&mut sum, &y);
            Ok((sum, record.then(|| Box::new(|grad: &[f32]| vec![grad.to_vec(), grad.to_vec()]) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Shape;
    use dfdx::tensor_ops::TryAdd as _;

    use crate::nn::tensor::{Result, Tensor};

    pub fn add<S: Shape>(x: Tensor<S>, y: Tensor<S>) -> Result<Tensor<S>> {
        Ok(x.try_add(y)?)
    }
}
