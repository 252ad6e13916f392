//! The convolution branch of a masked convolution block.

use super::kernel::BranchKernel;
use crate::Result;
use crate::backend::Buffer;
use crate::ops::layers::{Depthwise, Linear};

/// `conv2(depthwise(visible * conv1(x)))`.
pub(super) struct MaskedConvolution {
    pub conv1: Linear,
    pub depthwise: Depthwise,
    pub conv2: Linear,
}

impl BranchKernel for MaskedConvolution {
    /// The input and the output of the depthwise convolution.
    type Kept = [Buffer; 2];

    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> Result<(Buffer, [Buffer; 2])> {
        let kept = self.again(x)?;
        Ok((self.conv2.forward_onto(&kept[1], residual)?, kept))
    }

    fn again(&self, x: &[f32]) -> Result<[Buffer; 2]> {
        let input = self.conv1.forward(x)?;
        let output = self.depthwise.forward(&input)?;
        Ok([input, output])
    }

    fn backward(&self, x: &[f32], [input, output]: [Buffer; 2], grad: &[f32]) -> Result<Buffer> {
        let grad_output = self.conv2.backward_input(grad)?;
        self.conv2.backward_params(grad, &output)?;
        drop(output);
        self.depthwise.backward_params(&grad_output, &input)?;
        drop(input);
        let grad_input = self.depthwise.backward_input(&grad_output)?;
        drop(grad_output);
        self.conv1.backward_params(&grad_input, x)?;
        self.conv1.backward_input(&grad_input)
    }
}
