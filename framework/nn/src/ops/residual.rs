//! The sum of a residual connection.

use dfdx::shapes::{HasShape as _, Shape};

use crate::tensor::{Error, Result, Tensor};

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

    use crate::kernels::{Buffer, elementwise};
    use crate::ops::{flat, operation};
    use crate::tensor::{Result, Tensor};

    pub fn add<S: Shape>(x: Tensor<S>, y: Tensor<S>) -> Result<Tensor<S>> {
        let shape = *x.shape();
        operation(vec![flat(x)?, flat(y)?], shape, |mut values, record| {
            let y = values.swap_remove(1);
            let mut sum = values.swap_remove(0);
            elementwise::add_assign(&mut sum, &y);
            Ok((sum, record.then(|| Box::new(|grad: Buffer| vec![Buffer::copy(&grad), grad]) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Shape;
    use dfdx::tensor_ops::TryAdd as _;

    use crate::tensor::{Result, Tensor};

    pub fn add<S: Shape>(x: Tensor<S>, y: Tensor<S>) -> Result<Tensor<S>> {
        Ok(x.try_add(y)?)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::{add, composed};
    use crate::ops::gelu;
    use crate::tensor::{Error, from_vec, to_vec};
    use crate::testing::{loss_weights, noise, run};
    use crate::{T3, Tape};

    const SHAPE: (usize, usize, usize) = (2, 3, 4);

    #[test]
    fn equals_the_composed_operation_also_where_a_tensor_is_used_twice() {
        type Add = fn(T3, T3) -> crate::Result<T3>;
        let own = |add: Add| run(&noise(1, 24), SHAPE, &[], |x| add(add(x.clone(), gelu(x.clone())?)?, x));
        own(add).assert_close(&own(composed::add), 1e-6);
    }

    #[test]
    fn both_sides_may_be_the_same_tensor() {
        let own = run(&noise(1, 24), SHAPE, &[], |x| add(x.clone(), x));
        let expected: Vec<f32> = loss_weights(24).iter().map(|weight| 2.0 * weight).collect();
        assert_eq!(own.grads[0], expected);
    }

    #[test]
    fn a_constant_may_come_first() {
        let constant = from_vec(noise(2, 24), SHAPE, &Tape::none()).unwrap();
        let own = run(&noise(1, 24), SHAPE, &[], |x| add(constant.clone(), x));
        own.assert_close(&run(&noise(1, 24), SHAPE, &[], |x| add(x, constant.clone())), 0.0);
    }

    #[test]
    fn other_shapes_are_an_error() {
        let x = from_vec(noise(1, 24), SHAPE, &Tape::none()).unwrap();
        let y = from_vec(noise(1, 24), (3, 2, 4), &Tape::none()).unwrap();
        assert!(matches!(add(x.clone(), y), Err(Error::Shape(_))));
        assert_eq!(to_vec(&add(x.clone(), x).unwrap()).unwrap()[0], 2.0 * noise(1, 1)[0]);
    }
}
