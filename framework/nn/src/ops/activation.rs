//! Activations.

use super::layer::{Layer, LayerBackward, Pass, apply_constant};
use crate::Shape;
use crate::backend::{Buffer, gelu as gelu_kernel, relu as relu_kernel};
use crate::error::Result;
use crate::tensor::Tensor;

/// GELU with the exact error function, as PyTorch's default (Hendrycks and Gimpel 2016).
#[derive(Debug, Clone, Copy)]
pub struct Gelu;

/// `max(x, 0)`, elementwise. The gradient at 0 is 0, as in PyTorch.
#[derive(Debug, Clone, Copy)]
pub struct Relu;

/// [`Gelu`] of a tensor of any shape.
///
/// # Errors
/// If the device fails.
pub fn gelu(x: Tensor) -> Result<Tensor> {
    apply_constant(Gelu, x)
}

/// [`Relu`] of a tensor of any shape.
///
/// # Errors
/// If the device fails.
pub fn relu(x: Tensor) -> Result<Tensor> {
    apply_constant(Relu, x)
}

impl Layer for Gelu {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, mut x: Buffer, _: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let y = gelu_kernel::forward(&x)?;
        let backward = move |mut grad: Buffer| {
            gelu_kernel::backward_and_recompute(&mut grad, &mut x)?;
            Ok(Some(grad))
        };
        Ok((y, Box::new(backward)))
    }
}

impl Layer for Relu {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Ok(input)
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, _: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let y = relu_kernel::forward(&x)?;
        let backward = move |mut grad: Buffer| {
            relu_kernel::backward(&mut grad, &x)?;
            Ok(Some(grad))
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle;
    use crate::testing::{check_gradient, loss_weights, noise, run};

    #[test]
    fn gelu_equals_the_composed_operation() {
        let mut x: Vec<f32> = noise(1, 60).iter().map(|x| 4.0 * x).collect();
        x[..3].copy_from_slice(&[0.0, 0.005, -0.005]);
        run(&x, (2, 3, 10), &[], gelu).assert_close(&run(&x, (2, 3, 10), &[], oracle::gelu), 1e-6);
    }

    #[test]
    fn relu_equals_the_composed_operation() {
        let mut x = noise(1, 60);
        x[7] = 0.0;
        let own = run(&x, (2, 3, 2, 5), &[], relu);
        own.assert_close(&run(&x, (2, 3, 2, 5), &[], oracle::relu), 0.0);
    }

    #[test]
    fn the_gradient_of_relu_matches_finite_differences() {
        let x = noise(1, 60);
        let own = run(&x, (60,), &[], relu);
        check_gradient(&x, &own.grads[0], |x| {
            x.iter().zip(loss_weights(60)).map(|(x, weight)| x.max(0.0) * f64::from(weight)).sum()
        });
    }
}
