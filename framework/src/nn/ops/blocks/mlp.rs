//! The feed-forward half of a block.

use super::{LinearParams, NormParams, Residual};
use crate::nn::tensor::{Result, T3};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `x + fc2(gelu(fc1(norm(x))))` on `[B, N, C]`.
///
/// # Errors
/// If a parameter does not fit.
pub fn mlp(
    x: T3,
    norm: NormParams<'_>,
    fc1: LinearParams<'_>,
    fc2: LinearParams<'_>,
    how: Residual<'_>,
) -> Result<T3> {
    use dfdx::shapes::HasShape as _;
    let channels = x.shape().2;
    norm.check(channels)?;
    let hidden = fc1.check(channels)?;
    fc2.check_outputs(hidden, channels)?;
    implementation::mlp(x, norm, fc1, fc2, how)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use super::super::kernel::{Branch, residual};
    use super::{LinearParams, NormParams, Residual};
    use crate::nn::Param;
    use crate::nn::kernels::{Buffer, gelu};
    use crate::nn::ops::layers::{Linear, Norm};
    use crate::nn::tensor::{Result, T3};

    pub fn mlp(
        x: T3,
        norm: NormParams<'_>,
        fc1: LinearParams<'_>,
        fc2: LinearParams<'_>,
        how: Residual<'_>,
    ) -> Result<T3> {
        residual(x, Norm::new(norm), Mlp { fc1: Linear::new(fc1), fc2: Linear::new(fc2) }, how)
    }

    struct Mlp {
        fc1: Linear,
        fc2: Linear,
    }

    impl Branch for Mlp {
        /// What goes into the activation.
        type Kept = Buffer;

        fn forward(&self, x: &[f32], y: Option<&mut [f32]>) -> Buffer {
            match y {
                Some(y) => {
                    let mut hidden = self.fc1.product(x);
                    let bias = self.fc1.bias().map(Param::values);
                    let activations = gelu::forward_biased(&mut hidden, bias.as_deref());
                    self.fc2.forward_onto(&activations, y);
                    hidden
                }
                None => self.fc1.forward(x),
            }
        }

        fn backward(&self, x: &[f32], hidden: Buffer, grad: &[f32]) -> Buffer {
            let mut grad_hidden = self.fc2.backward_input(grad);
            let mut activations = hidden;
            gelu::backward_again(&mut grad_hidden, &mut activations);
            self.fc2.backward_params(grad, &activations);
            drop(activations);
            self.fc1.backward_params(&grad_hidden, x);
            self.fc1.backward_input(&grad_hidden)
        }
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use super::super::composed::residual;
    use super::{LinearParams, NormParams, Residual};
    use crate::nn::ops;
    use crate::nn::tensor::{Result, T3};

    pub fn mlp(
        x: T3,
        norm: NormParams<'_>,
        fc1: LinearParams<'_>,
        fc2: LinearParams<'_>,
        how: Residual<'_>,
    ) -> Result<T3> {
        let branch = ops::layer_norm(x.clone(), norm, how.tape)?;
        let branch = ops::gelu(ops::linear(branch, fc1, how.tape)?)?;
        residual(x, ops::linear(branch, fc2, how.tape)?, how)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::super::testing::{check, params};
    use super::*;

    #[test]
    fn equals_the_composed_operations() {
        let params = params(&[&[10, 6], &[10], &[6, 10, 1, 1], &[6]]);
        let [norm_weight, norm_bias, weight1, bias1, weight2, bias2] = &params[..] else { unreachable!() };
        let norm = NormParams { weight: norm_weight, bias: norm_bias, eps: 1e-3 };
        let fc1 = LinearParams { weight: weight1, bias: Some(bias1) };
        let fc2 = LinearParams { weight: weight2, bias: Some(bias2) };
        check(&params, |x, how| mlp(x, norm, fc1, fc2, how), |x, how| composed::mlp(x, norm, fc1, fc2, how));
    }
}
