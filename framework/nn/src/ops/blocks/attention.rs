//! The attention branch of a transformer block.

use super::kernel::BranchKernel;
use crate::backend::attention::{self, Dims, Normalisers};
use crate::backend::elementwise::accumulate;
use crate::backend::{Buffer, relative_position};
use crate::ops::RelativePositionBias;
use crate::ops::layers::Linear;
use crate::{Param, Result};

/// `proj(attention(qkv(x)))`.
pub(super) struct SelfAttention {
    qkv: Linear,
    proj: Linear,
    dims: Dims,
    bias: Option<Bias>,
}

/// A table of biases, expanded where it is needed: the biases of all scores are large.
struct Bias {
    table: Param,
    grid: (usize, usize),
}

/// What the backward needs.
pub(super) struct Kept {
    qkv: Buffer,
    output: Buffer,
    normalisers: Normalisers,
}

impl SelfAttention {
    /// Of `[B, N, D]`.
    pub fn new(
        qkv: Linear,
        proj: Linear,
        (batch, tokens, channels): (usize, usize, usize),
        heads: usize,
        bias: Option<RelativePositionBias<'_>>,
    ) -> Self {
        Self {
            qkv,
            proj,
            dims: Dims { batch, queries: tokens, keys: tokens, heads, head_dim: channels / heads },
            bias: bias.map(|bias| Bias { table: bias.table.clone(), grid: bias.grid }),
        }
    }

    /// `[H, N, N]`.
    fn biases(&self) -> Result<Option<Buffer>> {
        let expand =
            |Bias { table, grid }: &Bias| relative_position::expand(&table.values(), *grid, self.dims.heads);
        self.bias.as_ref().map(expand).transpose()
    }
}

impl BranchKernel for SelfAttention {
    type Kept = Kept;

    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> Result<(Buffer, Kept)> {
        let kept = self.again(x)?;
        Ok((self.proj.forward_onto(&kept.output, residual)?, kept))
    }

    fn again(&self, x: &[f32]) -> Result<Kept> {
        let qkv = self.qkv.forward(x)?;
        let (output, normalisers) = attention::forward(&qkv, self.biases()?.as_deref(), self.dims)?;
        Ok(Kept { qkv, output, normalisers })
    }

    fn backward(&self, x: &[f32], kept: Kept, grad: &[f32]) -> Result<Buffer> {
        let Kept { qkv, output, normalisers } = kept;
        let grad_output = self.proj.backward_input(grad)?;
        self.proj.backward_params(grad, &output)?;
        let biases = self.biases()?;
        let (grad_qkv, grad_biases) =
            attention::backward(&grad_output, &qkv, biases.as_deref(), &normalisers, self.dims)?;
        drop((qkv, output, grad_output, biases));
        if let (Some(Bias { table, grid }), Some(grad)) = (&self.bias, grad_biases) {
            table.accumulate_grad(|sum, mode| {
                accumulate(sum, &relative_position::grad_table(&grad, *grid, self.dims.heads)?, mode)
            })?;
        }
        self.qkv.backward_params(&grad_qkv, x)?;
        self.qkv.backward_input(&grad_qkv)
    }
}
