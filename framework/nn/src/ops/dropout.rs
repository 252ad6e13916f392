//! Products with constant factors: dropout of elements, of samples and of channels.

use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Each element times its own factor: 0, or the inverse of the probability to keep it.
///
/// # Errors
/// If the numbers of elements and factors differ.
pub fn dropout(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    if factors.len() != x.numel() {
        return Err(Error::Shape(format!("{} factors for the shape {:?}", factors.len(), x.shape())));
    }
    implementation::dropout(x, factors)
}

/// Each sample of `[B, N, C]` times its own factor, `factors` of shape `[B]`: stochastic depth.
///
/// # Errors
/// If the numbers of samples and factors differ.
pub fn scale_samples(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let (batch, _, _) = x.dims3()?;
    if factors.is_empty() || factors.len() != batch {
        return Err(Error::Shape(format!("{} factors for {batch} samples", factors.len())));
    }
    implementation::scale_samples(x, factors)
}

/// Each channel of each map `[B, H, W, C]` times its own factor, `factors` of shape `[B, C]`.
///
/// # Errors
/// If the numbers of channels and factors differ.
pub fn scale_channels(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let (batch, _, _, channels) = x.dims4()?;
    if factors.is_empty() || factors.len() != batch * channels {
        return Err(Error::Shape(format!(
            "{} factors for {batch} maps of {channels} channels",
            factors.len()
        )));
    }
    implementation::scale_channels(x, factors)
}

/// All values times one factor, as for the weight of a loss: `(loss * 0.4)?`.
impl std::ops::Mul<f32> for Tensor {
    type Output = Result<Self>;

    fn mul(self, factor: f32) -> Result<Self> {
        implementation::scale(self, factor)
    }
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::Buffer;
    use crate::kernels::elementwise::{self, mul_assign, scale_parts};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn dropout(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
        product(x, factors, mul_assign)
    }

    pub fn scale_samples(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
        product(x, factors, scale_parts)
    }

    pub fn scale_channels(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
        let (_, _, _, channels) = x.dims4()?;
        product(x, factors, move |y, factors| elementwise::scale_channels(y, factors, channels))
    }

    pub fn scale(x: Tensor, factor: f32) -> Result<Tensor> {
        product(x, vec![factor], scale_parts)
    }

    /// The backward of a product with constants is the same product.
    fn product(
        x: Tensor,
        factors: Vec<f32>,
        multiply: impl Fn(&mut [f32], &[f32]) + 'static,
    ) -> Result<Tensor> {
        let shape = x.shape();
        operation(vec![x], shape, move |mut values, record| {
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
    use dfdx::shapes::Axes2;
    use dfdx::tensor_ops::{BroadcastTo as _, TryMul as _};

    use crate::ops::rows::constant;
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
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{composed, dropout, scale_channels, scale_samples};
    use crate::Tape;
    use crate::tensor::{Error, Tensor};
    use crate::testing::{noise, run};

    const SHAPE: (usize, usize, usize) = (2, 3, 4);

    #[test]
    fn equals_the_composed_operation() {
        let x = noise(1, 24);
        let own = run(&x, SHAPE, &[], |x| dropout(x, noise(2, 24)));
        own.assert_close(&run(&x, SHAPE, &[], |x| composed::dropout(x, noise(2, 24))), 0.0);
        let own = run(&x, SHAPE, &[], |x| scale_samples(x, vec![2.0, 0.0]));
        own.assert_close(&run(&x, SHAPE, &[], |x| composed::scale_samples(x, vec![2.0, 0.0])), 0.0);
        let own = run(&x, SHAPE, &[], |x| x * 0.4);
        own.assert_close(&run(&x, SHAPE, &[], |x| composed::scale(x, 0.4)), 0.0);
        let shape = (2, 3, 1, 4);
        let own = run(&x, shape, &[], |x| scale_channels(x, noise(2, 8)));
        own.assert_close(&run(&x, shape, &[], |x| composed::scale_channels(x, noise(2, 8))), 0.0);
    }

    #[test]
    fn other_numbers_of_factors_are_an_error() {
        let x = Tensor::from_vec(noise(1, 24), SHAPE, &Tape::none()).unwrap();
        assert!(matches!(dropout(x.clone(), vec![1.0; 23]), Err(Error::Shape(_))));
        assert!(matches!(scale_samples(x, vec![1.0; 3]), Err(Error::Shape(_))));
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 1, 4), &Tape::none()).unwrap();
        assert!(matches!(scale_channels(x, vec![1.0; 4]), Err(Error::Shape(_))));
    }
}
