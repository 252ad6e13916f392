//! Products with constant factors: dropout of elements, of samples and of channels.

use dfdx::shapes::{HasShape as _, Shape};

use crate::tensor::{Error, Result, T3, T4, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Each element times its own factor: 0, or the inverse of the probability to keep it.
///
/// # Errors
/// If the numbers of elements and factors differ.
pub fn dropout<S: Shape>(x: Tensor<S>, factors: Vec<f32>) -> Result<Tensor<S>> {
    if factors.len() != x.shape().num_elements() {
        return Err(Error::Shape(format!("{} factors for the shape {:?}", factors.len(), x.shape())));
    }
    implementation::dropout(x, factors)
}

/// Each sample of `[B, N, C]` times its own factor, `factors` of shape `[B]`: stochastic depth.
///
/// # Errors
/// If the numbers of samples and factors differ.
pub fn scale_samples(x: T3, factors: Vec<f32>) -> Result<T3> {
    if factors.is_empty() || factors.len() != x.shape().0 {
        return Err(Error::Shape(format!("{} factors for {} samples", factors.len(), x.shape().0)));
    }
    implementation::scale_samples(x, factors)
}

/// Each channel of each map `[B, H, W, C]` times its own factor, `factors` of shape `[B, C]`.
///
/// # Errors
/// If the numbers of channels and factors differ.
pub fn scale_channels(x: T4, factors: Vec<f32>) -> Result<T4> {
    let (batch, _, _, channels) = *x.shape();
    if factors.is_empty() || factors.len() != batch * channels {
        return Err(Error::Shape(format!(
            "{} factors for {batch} maps of {channels} channels",
            factors.len()
        )));
    }
    implementation::scale_channels(x, factors)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::{HasShape as _, Shape};

    use crate::kernels::Buffer;
    use crate::kernels::elementwise::{self, mul_assign, scale_parts};
    use crate::ops::{flat, operation};
    use crate::tensor::{Result, T3, T4, Tensor};

    pub fn dropout<S: Shape>(x: Tensor<S>, factors: Vec<f32>) -> Result<Tensor<S>> {
        product(x, factors, mul_assign)
    }

    pub fn scale_samples(x: T3, factors: Vec<f32>) -> Result<T3> {
        product(x, factors, scale_parts)
    }

    pub fn scale_channels(x: T4, factors: Vec<f32>) -> Result<T4> {
        let channels = x.shape().3;
        product(x, factors, move |y, factors| elementwise::scale_channels(y, factors, channels))
    }

    /// The backward of a product with constants is the same product.
    fn product<S: Shape>(
        x: Tensor<S>,
        factors: Vec<f32>,
        multiply: impl Fn(&mut [f32], &[f32]) + 'static,
    ) -> Result<Tensor<S>> {
        let shape = *x.shape();
        operation(vec![flat(x)?], shape, move |mut values, record| {
            let mut y = values.swap_remove(0);
            multiply(&mut y, &factors);
            let backward = move |mut grad: Buffer| {
                multiply(&mut grad, &factors);
                vec![grad]
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes2, HasShape as _, Shape};
    use dfdx::tensor_ops::{BroadcastTo as _, TryMul as _};

    use crate::Tape;
    use crate::tensor::{Result, T3, T4, Tensor, from_vec};

    pub fn dropout<S: Shape>(x: Tensor<S>, factors: Vec<f32>) -> Result<Tensor<S>> {
        let factors = from_vec(factors, *x.shape(), &Tape::none())?;
        Ok(x.try_mul(factors)?)
    }

    pub fn scale_samples(x: T3, factors: Vec<f32>) -> Result<T3> {
        let shape = *x.shape();
        let factors = from_vec(factors, (shape.0,), &Tape::none())?;
        Ok(x.try_mul(factors.try_broadcast_like::<_, Axes2<1, 2>>(&shape)?)?)
    }

    pub fn scale_channels(x: T4, factors: Vec<f32>) -> Result<T4> {
        let shape = *x.shape();
        let factors = from_vec(factors, (shape.0, shape.3), &Tape::none())?;
        Ok(x.try_mul(factors.try_broadcast_like::<_, Axes2<1, 2>>(&shape)?)?)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{composed, dropout, scale_channels, scale_samples};
    use crate::Tape;
    use crate::tensor::{Error, from_vec};
    use crate::testing::{noise, run};

    const SHAPE: (usize, usize, usize) = (2, 3, 4);

    #[test]
    fn equals_the_composed_operation() {
        let x = noise(1, 24);
        let own = run(&x, SHAPE, &[], |x| dropout(x, noise(2, 24)));
        own.assert_close(&run(&x, SHAPE, &[], |x| composed::dropout(x, noise(2, 24))), 0.0);
        let own = run(&x, SHAPE, &[], |x| scale_samples(x, vec![2.0, 0.0]));
        own.assert_close(&run(&x, SHAPE, &[], |x| composed::scale_samples(x, vec![2.0, 0.0])), 0.0);
        let shape = (2, 3, 1, 4);
        let own = run(&x, shape, &[], |x| scale_channels(x, noise(2, 8)));
        own.assert_close(&run(&x, shape, &[], |x| composed::scale_channels(x, noise(2, 8))), 0.0);
    }

    #[test]
    fn other_numbers_of_factors_are_an_error() {
        let x = from_vec(noise(1, 24), SHAPE, &Tape::none()).unwrap();
        assert!(matches!(dropout(x.clone(), vec![1.0; 23]), Err(Error::Shape(_))));
        assert!(matches!(scale_samples(x, vec![1.0; 3]), Err(Error::Shape(_))));
        let x = from_vec(noise(1, 24), (2, 3, 1, 4), &Tape::none()).unwrap();
        assert!(matches!(scale_channels(x, vec![1.0; 4]), Err(Error::Shape(_))));
    }
}
