//! The feed-forward branch of a block.

use super::kernel::BranchKernel;
use crate::Result;
use crate::backend::Buffer;
use crate::ops::layers::Linear;

/// `fc2(gelu(fc1(x)))`.
pub(super) struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl BranchKernel for Mlp {
    /// What goes into the activation.
    type Kept = Buffer;

    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> Result<(Buffer, Buffer)> {
        let [hidden, activations] = self.fc1.forward_gelu(x)?;
        Ok((self.fc2.forward_onto(&activations, residual)?, hidden))
    }

    fn again(&self, x: &[f32]) -> Result<Buffer> {
        self.fc1.forward(x)
    }

    fn backward(&self, x: &[f32], mut hidden: Buffer, grad: &[f32]) -> Result<Buffer> {
        let grad_hidden = self.fc2.backward_input_gelu(grad, &mut hidden)?;
        self.fc2.backward_params(grad, &hidden)?;
        drop(hidden);
        self.fc1.backward_params(&grad_hidden, x)?;
        self.fc1.backward_input(&grad_hidden)
    }
}
