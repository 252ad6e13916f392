//! The feed-forward branch of a block.

use super::kernel::BranchKernel;
use crate::nn::Param;
use crate::nn::kernels::{Buffer, gelu};
use crate::nn::ops::layers::Linear;

/// `fc2(gelu(fc1(x)))`.
pub(super) struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

impl BranchKernel for Mlp {
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
