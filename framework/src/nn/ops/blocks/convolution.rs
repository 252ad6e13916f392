//! The convolution half of a masked convolution block.

use dfdx::shapes::HasShape as _;

use super::{LinearParams, NormParams, Residual};
use crate::nn::ops::DepthwiseParams;
use crate::nn::tensor::{Result, T3};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// `x + conv2(depthwise(visible * conv1(norm(x))))` on `[B, P * cell * cell, C]`, with `conv1` and `conv2` pointwise.
///
/// # Errors
/// If a parameter, the layout or the mask does not fit.
pub fn masked_convolution(
    x: T3,
    norm: NormParams<'_>,
    conv1: LinearParams<'_>,
    depthwise: DepthwiseParams<'_>,
    conv2: LinearParams<'_>,
    how: Residual<'_>,
) -> Result<T3> {
    let channels = x.shape().2;
    norm.check(channels)?;
    conv1.check_outputs(channels, channels)?;
    conv2.check_outputs(channels, channels)?;
    depthwise.check(*x.shape())?;
    implementation::masked_convolution(x, norm, conv1, depthwise, conv2, how)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use super::super::kernel::{Branch, residual};
    use super::{DepthwiseParams, LinearParams, NormParams, Residual};
    use crate::nn::kernels::Buffer;
    use crate::nn::ops::layers::{Depthwise, Linear, Norm};
    use crate::nn::tensor::{Result, T3};

    pub fn masked_convolution(
        x: T3,
        norm: NormParams<'_>,
        conv1: LinearParams<'_>,
        depthwise: DepthwiseParams<'_>,
        conv2: LinearParams<'_>,
        how: Residual<'_>,
    ) -> Result<T3> {
        let branch = MaskedConvolution {
            conv1: Linear::new(conv1),
            depthwise: Depthwise::new(depthwise),
            conv2: Linear::new(conv2),
        };
        residual(x, Norm::new(norm), branch, how)
    }

    struct MaskedConvolution {
        conv1: Linear,
        depthwise: Depthwise,
        conv2: Linear,
    }

    impl Branch for MaskedConvolution {
        /// The input and the output of the depthwise convolution.
        type Kept = [Buffer; 2];

        fn forward(&self, x: &[f32], y: Option<&mut [f32]>) -> [Buffer; 2] {
            let input = self.conv1.forward(x);
            let output = self.depthwise.forward(&input);
            if let Some(y) = y {
                self.conv2.forward_onto(&output, y);
            }
            [input, output]
        }

        fn backward(&self, x: &[f32], [input, output]: [Buffer; 2], grad: &[f32]) -> Buffer {
            let grad_output = self.conv2.backward_input(grad);
            self.conv2.backward_params(grad, &output);
            drop(output);
            self.depthwise.backward_params(&grad_output, &input);
            drop(input);
            let grad_input = self.depthwise.backward_input(&grad_output);
            drop(grad_output);
            self.conv1.backward_params(&grad_input, x);
            self.conv1.backward_input(&grad_input)
        }
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use super::super::composed::residual;
    use super::{DepthwiseParams, LinearParams, NormParams, Residual};
    use crate::nn::ops;
    use crate::nn::tensor::{Result, T3};

    pub fn masked_convolution(
        x: T3,
        norm: NormParams<'_>,
        conv1: LinearParams<'_>,
        depthwise: DepthwiseParams<'_>,
        conv2: LinearParams<'_>,
        how: Residual<'_>,
    ) -> Result<T3> {
        let branch = ops::layer_norm(x.clone(), norm, how.tape)?;
        let branch = ops::linear(branch, conv1, how.tape)?;
        let branch = ops::depthwise(branch, depthwise, how.tape)?;
        residual(x, ops::linear(branch, conv2, how.tape)?, how)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use std::rc::Rc;

    use super::super::testing::{SHAPE, check, params};
    use super::*;
    use crate::nn::PatchLayout;

    #[test]
    fn equals_the_composed_operations() {
        let params = params(&[&[6, 6, 1, 1], &[6], &[6, 1, 3, 3], &[6], &[6, 6, 1, 1], &[6]]);
        let [norm_weight, norm_bias, weight1, bias1, weight, bias, weight2, bias2] = &params[..] else {
            unreachable!()
        };
        let norm = NormParams { weight: norm_weight, bias: norm_bias, eps: 1e-3 };
        let conv1 = LinearParams { weight: weight1, bias: Some(bias1) };
        let conv2 = LinearParams { weight: weight2, bias: Some(bias2) };
        let layout = Rc::new(PatchLayout::new(2, 2, 2, 2, vec![0, 3, 2, 1]).unwrap());
        let mask: Rc<[f32]> = (0..SHAPE.0 * SHAPE.1).map(|at| f32::from(at % 3 > 0)).collect();
        for visible in [None, Some(&mask)] {
            let depthwise = DepthwiseParams { weight, bias: Some(bias), layout: &layout, visible };
            check(
                &params,
                |x, how| masked_convolution(x, norm, conv1, depthwise, conv2, how),
                |x, how| composed::masked_convolution(x, norm, conv1, depthwise, conv2, how),
            );
        }
    }
}
