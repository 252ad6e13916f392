//! The attention branch of a transformer block.

use super::kernel::BranchKernel;
use crate::nn::kernels::Buffer;
use crate::nn::kernels::attention::{self, Dims};
use crate::nn::ops::layers::Linear;

/// `proj(attention(qkv(x)))`.
pub(super) struct SelfAttention {
    qkv: Linear,
    proj: Linear,
    dims: Dims,
}

/// What the backward needs.
pub(super) struct Kept {
    qkv: Buffer,
    output: Buffer,
    normalisers: Vec<f32>,
}

impl SelfAttention {
    /// Of `[B, N, D]`.
    pub fn new(
        qkv: Linear,
        proj: Linear,
        (batch, tokens, channels): (usize, usize, usize),
        heads: usize,
    ) -> Self {
        Self {
            qkv,
            proj,
            dims: Dims { batch, queries: tokens, keys: tokens, heads, head_dim: channels / heads },
        }
    }
}

impl BranchKernel for SelfAttention {
    type Kept = Kept;

    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> (Buffer, Kept) {
        let kept = self.again(x);
        (self.proj.forward_onto(&kept.output, residual), kept)
    }

    fn again(&self, x: &[f32]) -> Kept {
        let qkv = self.qkv.forward(x);
        let (output, normalisers) = attention::forward(&qkv, None, self.dims);
        Kept { qkv, output, normalisers }
    }

    fn backward(&self, x: &[f32], kept: Kept, grad: &[f32]) -> Buffer {
        let Kept { qkv, output, normalisers } = kept;
        let grad_output = self.proj.backward_input(grad);
        self.proj.backward_params(grad, &output);
        let (grad_qkv, _) = attention::backward(&grad_output, &qkv, None, &normalisers, self.dims);
        drop((qkv, output, grad_output));
        self.qkv.backward_params(&grad_qkv, x);
        self.qkv.backward_input(&grad_qkv)
    }
}
