//! Elementwise arithmetic: sums, and products with constant factors.

use super::operation::operation;
use crate::backend::elementwise::{self, add_assign, mul_assign, scale_parts};
use crate::backend::{Buffer, Values, copy, upload};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// `x + y`, of the same shape.
///
/// # Errors
/// If the shapes differ, or the device fails.
pub fn add(x: Tensor, y: Tensor) -> Result<Tensor> {
    if x.shape() != y.shape() {
        return Err(Error::Shape(format!("cannot add {:?} and {:?}", x.shape(), y.shape())));
    }
    let shape = x.shape();
    operation(vec![x, y], shape, |mut inputs, records| {
        let y = inputs.swap_remove(1);
        let mut sum = inputs.swap_remove(0);
        add_assign(&mut sum, &y)?;
        Ok((sum, records.then(|| Box::new(|grad: Buffer| Ok(vec![Some(copy(&grad)?), Some(grad)])) as _)))
    })
}

/// [`add`], as for losses: `(a + b)?`.
impl std::ops::Add for Tensor {
    type Output = Result<Self>;

    fn add(self, other: Self) -> Result<Self> {
        add(self, other)
    }
}

/// All values times one factor, as for the weight of a loss: `(loss * 0.4)?`.
impl std::ops::Mul<f32> for Tensor {
    type Output = Result<Self>;

    fn mul(self, factor: f32) -> Result<Self> {
        product(self, vec![factor], scale_parts)
    }
}

/// Each element times its own factor (dropout): 0, or the inverse of the probability to keep it.
///
/// # Errors
/// If the numbers of elements and factors differ, or the device fails.
pub fn dropout(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    if factors.len() != x.numel() {
        return Err(Error::Shape(format!("{} factors for the shape {:?}", factors.len(), x.shape())));
    }
    product(x, factors, mul_assign)
}

/// Each sample of `[B, N, C]` times its own factor, `factors` of shape `[B]` (stochastic depth).
///
/// # Errors
/// If the numbers of samples and factors differ, or the device fails.
pub fn scale_samples(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let (batch, _, _) = x.dims3()?;
    if factors.is_empty() || factors.len() != batch {
        return Err(Error::Shape(format!("{} factors for {batch} samples", factors.len())));
    }
    product(x, factors, scale_parts)
}

/// Each channel of each map `[B, H, W, C]` times its own factor, `factors` of shape `[B, C]`.
///
/// # Errors
/// If the numbers of channels and factors differ, or the device fails.
pub fn scale_channels(x: Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let (batch, _, _, channels) = x.dims4()?;
    if factors.is_empty() || factors.len() != batch * channels {
        return Err(Error::Shape(format!(
            "{} factors for {batch} maps of {channels} channels",
            factors.len()
        )));
    }
    product(x, factors, move |y, factors| elementwise::scale_channels(y, factors, channels))
}

/// The backward of a product with constants is the same product.
fn product(
    x: Tensor,
    factors: Vec<f32>,
    multiply: impl Fn(&mut Values, &Values) -> Result<()> + 'static,
) -> Result<Tensor> {
    let shape = x.shape();
    operation(vec![x], shape, move |mut inputs, records| {
        let mut y = inputs.swap_remove(0);
        let factors = upload(factors)?;
        multiply(&mut y, &factors)?;
        let backward = move |mut grad: Buffer| {
            multiply(&mut grad, &factors)?;
            Ok(vec![Some(grad)])
        };
        Ok((y, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::ops::gelu;
    use crate::testing::{loss_weights, noise, run};
    use crate::{Tape, oracle};

    const SHAPE: (usize, usize, usize) = (2, 3, 4);

    #[test]
    fn products_equal_the_composed_operations() {
        let x = noise(1, 24);
        let own = run(&x, SHAPE, &[], |x| dropout(x, noise(2, 24)));
        own.assert_close(&run(&x, SHAPE, &[], |x| oracle::dropout(x, noise(2, 24))), 0.0);
        let own = run(&x, SHAPE, &[], |x| scale_samples(x, vec![2.0, 0.0]));
        own.assert_close(&run(&x, SHAPE, &[], |x| oracle::scale_samples(x, vec![2.0, 0.0])), 0.0);
        let own = run(&x, SHAPE, &[], |x| x * 0.4);
        own.assert_close(&run(&x, SHAPE, &[], |x| oracle::scale(x, 0.4)), 0.0);
        let shape = (2, 3, 1, 4);
        let own = run(&x, shape, &[], |x| scale_channels(x, noise(2, 8)));
        own.assert_close(&run(&x, shape, &[], |x| oracle::scale_channels(x, noise(2, 8))), 0.0);
    }

    #[test]
    fn other_numbers_of_factors_are_an_error() {
        let x = Tensor::from_vec(noise(1, 24), SHAPE, &Tape::none()).unwrap();
        assert!(matches!(dropout(x.clone(), vec![1.0; 23]), Err(Error::Shape(_))));
        assert!(matches!(scale_samples(x, vec![1.0; 3]), Err(Error::Shape(_))));
        let x = Tensor::from_vec(noise(1, 24), (2, 3, 1, 4), &Tape::none()).unwrap();
        assert!(matches!(scale_channels(x, vec![1.0; 4]), Err(Error::Shape(_))));
    }

    #[test]
    fn the_sum_equals_the_composed_operation_also_where_a_tensor_is_used_twice() {
        type Add = fn(Tensor, Tensor) -> Result<Tensor>;
        let own = |add: Add| run(&noise(1, 24), SHAPE, &[], |x| add(add(x.clone(), gelu(x.clone())?)?, x));
        own(add).assert_close(&own(oracle::add), 1e-6);
    }

    #[test]
    fn both_sides_may_be_the_same_tensor() {
        let own = run(&noise(1, 24), SHAPE, &[], |x| x.clone() + x);
        let expected: Vec<f32> = loss_weights(24).iter().map(|weight| 2.0 * weight).collect();
        assert_eq!(own.grads[0], expected);
    }

    #[test]
    fn a_constant_may_come_first() {
        let constant = Tensor::from_vec(noise(2, 24), SHAPE, &Tape::none()).unwrap();
        let own = run(&noise(1, 24), SHAPE, &[], |x| add(constant.clone(), x));
        own.assert_close(&run(&noise(1, 24), SHAPE, &[], |x| add(x, constant.clone())), 0.0);
    }

    #[test]
    fn other_shapes_are_an_error() {
        let x = Tensor::from_vec(noise(1, 24), SHAPE, &Tape::none()).unwrap();
        let y = Tensor::from_vec(noise(1, 24), (3, 2, 4), &Tape::none()).unwrap();
        assert!(matches!(add(x.clone(), y), Err(Error::Shape(_))));
        assert_eq!(add(x.clone(), x).unwrap().to_vec().unwrap()[0], 2.0 * noise(1, 1)[0]);
    }
}
