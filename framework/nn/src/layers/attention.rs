//! The self-attention branch of a transformer block.

use super::{Branch, Linear};
use crate::backend::attention::{self, Dims, Normalisers};
use crate::backend::elementwise::accumulate;
use crate::backend::relative_position::{self, offsets};
use crate::backend::{Buffer, Values};
use crate::error::{Error, Result};
use crate::{Init, Param, Scope, Shape};

/// Multi-head self-attention with its projections, `proj(softmax(q k^T / sqrt(D / heads) + bias) v)` with `[q | k | v] = qkv(x)`, each
/// `[heads, D / heads]`.
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    bias: Option<RelativePositionBias>,
}

/// A learned bias of the scores for every offset between two positions of a grid (Swin, `BEiT`).
#[derive(Debug, Clone)]
struct RelativePositionBias {
    /// `[(2 R - 1)(2 C - 1), heads]`. The biases of all scores are large: they are expanded where they are needed.
    table: Param,
    /// Rows and columns, `R` and `C`.
    grid: (usize, usize),
}

/// What the backward of an [`Attention`] needs.
#[derive(Debug)]
pub struct SavedAttention {
    qkv: Buffer,
    output: Buffer,
    normalisers: Normalisers,
}

impl Attention {
    /// With `qkv`, `proj`, and a `relative_position_bias_table` if there is a grid of the tokens.
    ///
    /// # Errors
    /// If `heads` does not divide `dim`.
    pub fn new(
        scope: &Scope,
        dim: usize,
        heads: usize,
        relative_positions: Option<(usize, usize)>,
    ) -> Result<Self> {
        if heads == 0 || dim == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::Value(format!("{dim} channels cannot be divided among {heads} heads")));
        }
        let bias = |grid| {
            let shape = [offsets(grid), heads];
            let table = scope.param("relative_position_bias_table", &shape, &Init::ZEROS);
            RelativePositionBias { table, grid }
        };
        Ok(Self {
            bias: relative_positions.map(bias),
            qkv: Linear::new(&scope.child("qkv"), dim, 3 * dim),
            proj: Linear::new(&scope.child("proj"), dim, dim),
            heads,
        })
    }

    /// Multiply-accumulates for one image of that many tokens: projections, scores, weighted values.
    pub fn macs(&self, tokens: usize) -> u64 {
        let (pairs, dim) = ((tokens * tokens) as u64, self.qkv.weight.shape()[1] as u64);
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * dim
    }

    fn dims(&self, input: Shape) -> Result<Dims> {
        let (batch, tokens, channels) = input.dims3()?;
        let heads = self.heads;
        Ok(Dims { batch, queries: tokens, keys: tokens, heads, head_dim: channels / heads })
    }

    /// `[heads, N, N]`.
    fn biases(&self) -> Result<Option<Buffer>> {
        let expand = |RelativePositionBias { table, grid }: &RelativePositionBias| {
            relative_position::expand(&table.values(), *grid, self.heads)
        };
        self.bias.as_ref().map(expand).transpose()
    }
}

impl Branch for Attention {
    type Saved = SavedAttention;

    fn check(&self, input: Shape) -> Result<()> {
        let (_, tokens, channels) = input.dims3()?;
        if tokens == 0 || !channels.is_multiple_of(self.heads) {
            return Err(Error::Shape(format!("{} heads cannot attend to {input:?}", self.heads)));
        }
        if let Some(RelativePositionBias { table, grid: (rows, cols) }) = &self.bias {
            if rows * cols != tokens {
                return Err(Error::Shape(format!(
                    "{}: biases of a grid of {rows} x {cols} do not fit {tokens} tokens",
                    table.name()
                )));
            }
            table.check_allocated()?;
        }
        self.qkv.check_outputs(channels, 3 * channels)?;
        self.proj.check_outputs(channels, channels)
    }

    fn forward(
        &self,
        x: &Values,
        shape: Shape,
        residual: Option<&Values>,
    ) -> Result<(Buffer, SavedAttention)> {
        let saved = self.recompute(x, shape)?;
        Ok((self.proj.forward_rows(&saved.output, residual)?, saved))
    }

    fn recompute(&self, x: &Values, shape: Shape) -> Result<SavedAttention> {
        let qkv = self.qkv.forward_rows(x, None)?;
        let (output, normalisers) = attention::forward(&qkv, self.biases()?.as_deref(), self.dims(shape)?)?;
        Ok(SavedAttention { qkv, output, normalisers })
    }

    fn backward(&self, x: &Values, saved: SavedAttention, grad: &Values, shape: Shape) -> Result<Buffer> {
        let SavedAttention { qkv, output, normalisers } = saved;
        let grad_output = self.proj.backward_input(grad)?;
        self.proj.backward_params(grad, Some(&output))?;
        let biases = self.biases()?;
        let (grad_qkv, grad_biases) =
            attention::backward(&grad_output, &qkv, biases.as_deref(), &normalisers, self.dims(shape)?)?;
        drop((qkv, output, grad_output, biases));
        if let (Some(RelativePositionBias { table, grid }), Some(grad)) = (&self.bias, grad_biases) {
            table.accumulate_grad(|sum, mode| {
                let grad = relative_position::grad_table(&grad, *grid, self.heads)?;
                accumulate(sum, &grad, mode)
            })?;
        }
        self.qkv.backward_params(&grad_qkv, Some(x))?;
        self.qkv.backward_input(&grad_qkv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::residual::tests::{SHAPE, assert_equals_composition, refused};
    use crate::oracle;

    #[test]
    fn its_residual_equals_the_composition() {
        // Each of 2 x 4 tokens, two heads.
        for grid in [None, Some((2, 4))] {
            assert_equals_composition(
                |scope| Attention::new(scope, 6, 2, grid).unwrap(),
                |attn, x| {
                    let table = attn.bias.as_ref().map(|bias| (&bias.table, bias.grid));
                    let heads = oracle::attention(oracle::linear(x, &attn.qkv)?, attn.heads, table)?;
                    oracle::linear(heads, &attn.proj)
                },
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let attention = |dim, grid| Attention::new(&Scope::new(0), dim, 2, grid).unwrap();
        assert!(!refused(attention(6, Some((2, 4))), SHAPE));
        assert!(refused(attention(8, None), SHAPE));
        assert!(refused(attention(6, Some((2, 3))), SHAPE));
        assert!(refused(attention(6, None), (2, 0, 6)));
        assert!(matches!(Attention::new(&Scope::describe(), 6, 4, None), Err(Error::Value(_))));
    }
}
