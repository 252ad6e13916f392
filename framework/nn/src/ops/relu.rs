//! The activation of heads of convolutions.

use crate::tensor::{Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `max(x, 0)`, elementwise. The gradient at 0 is 0, as in PyTorch.
pub fn relu(x: Tensor) -> Result<Tensor> {
    implementation::relu(x)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::{Buffer, relu};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn relu(x: Tensor) -> Result<Tensor> {
        let shape = x.shape();
        operation(vec![x], shape, |mut values, record| {
            let x = values.swap_remove(0);
            let y = relu::forward(&x);
            let backward = move |mut grad: Buffer| {
                relu::backward(&mut grad, &x);
                vec![grad]
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use crate::tensor::{Result, Tensor};

    pub fn relu(x: Tensor) -> Result<Tensor> {
        let shape = x.shape();
        Tensor::from_typed(x.typed((shape.numel(),))?.try_relu()?)?.reshape(shape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{composed, relu};
    use crate::testing::{check_gradient, loss_weights, noise, run};

    #[test]
    fn equals_the_composed_operation() {
        let mut x = noise(1, 60);
        x[7] = 0.0;
        let own = run(&x, (2, 3, 2, 5), &[], relu);
        own.assert_close(&run(&x, (2, 3, 2, 5), &[], composed::relu), 0.0);
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        let x = noise(1, 60);
        let own = run(&x, (60,), &[], relu);
        check_gradient(&x, &own.grads[0], |x| {
            x.iter().zip(loss_weights(60)).map(|(x, weight)| x.max(0.0) * f64::from(weight)).sum()
        });
    }
}
