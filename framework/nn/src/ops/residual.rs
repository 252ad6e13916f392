//! The sum of a residual connection.

use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `x + y`, of the same shape.
///
/// # Errors
/// If the shapes differ.
pub fn add(x: Tensor, y: Tensor) -> Result<Tensor> {
    if x.shape() != y.shape() {
        return Err(Error::Shape(format!("cannot add {:?} and {:?}", x.shape(), y.shape())));
    }
    implementation::add(x, y)
}

/// [`add`], as for losses: `(a + b)?`.
impl std::ops::Add for Tensor {
    type Output = Result<Self>;

    fn add(self, other: Self) -> Result<Self> {
        add(self, other)
    }
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::{Buffer, elementwise};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn add(x: Tensor, y: Tensor) -> Result<Tensor> {
        let shape = x.shape();
        operation(vec![x, y], shape, |mut values, record| {
            let y = values.swap_remove(1);
            let mut sum = values.swap_remove(0);
            elementwise::add_assign(&mut sum, &y);
            Ok((sum, record.then(|| Box::new(|grad: Buffer| vec![Buffer::copy(&grad), grad]) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::tensor_ops::TryAdd as _;

    use crate::tensor::{Result, Tensor};

    pub fn add(x: Tensor, y: Tensor) -> Result<Tensor> {
        let (shape, flat) = (x.shape(), (x.numel(),));
        Tensor::from_typed(x.typed(flat)?.try_add(y.typed(flat)?)?)?.reshape(shape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::{add, composed};
    use crate::Tape;
    use crate::ops::gelu;
    use crate::tensor::{Error, Tensor};
    use crate::testing::{loss_weights, noise, run};

    const SHAPE: (usize, usize, usize) = (2, 3, 4);

    #[test]
    fn equals_the_composed_operation_also_where_a_tensor_is_used_twice() {
        type Add = fn(Tensor, Tensor) -> crate::Result<Tensor>;
        let own = |add: Add| run(&noise(1, 24), SHAPE, &[], |x| add(add(x.clone(), gelu(x.clone())?)?, x));
        own(add).assert_close(&own(composed::add), 1e-6);
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
