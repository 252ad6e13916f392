//! The self-attention of a transformer block.

use super::Linear;
use crate::backend::relative_position::offsets;
use crate::ops::RelativePositionBias;
use crate::ops::blocks::Branch;
use crate::tensor::{Error, Result};
use crate::{Init, Param, Scope};

/// Multi-head self-attention with its projections (`qkv`, `proj`), and a bias of the scores by relative position if it has a grid
/// (`relative_position_bias_table`).
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    dim: usize,
    bias: Option<(Param, (usize, usize))>,
}

impl Attention {
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
        let table = |grid| {
            let shape = [offsets(grid), heads];
            (scope.param("relative_position_bias_table", &shape, &Init::ZEROS), grid)
        };
        Ok(Self {
            bias: relative_positions.map(table),
            qkv: Linear::new(&scope.child("qkv"), dim, 3 * dim),
            proj: Linear::new(&scope.child("proj"), dim, dim),
            heads,
            dim,
        })
    }

    /// As a branch of a chain of half blocks.
    pub fn branch(&self) -> Branch<'_> {
        let bias = self.bias.as_ref().map(|(table, grid)| RelativePositionBias { table, grid: *grid });
        Branch::SelfAttention { qkv: self.qkv.params(), proj: self.proj.params(), heads: self.heads, bias }
    }

    /// Multiply-accumulates for one image of that many tokens: projections, scores, weighted values.
    pub fn macs(&self, tokens: usize) -> u64 {
        let pairs = (tokens * tokens) as u64;
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * self.dim as u64
    }
}
