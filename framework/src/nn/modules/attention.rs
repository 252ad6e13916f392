//! The self-attention of a transformer block.

use super::Linear;
use crate::nn::ops::blocks::Branch;
use crate::nn::tensor::{Error, Result, T3};
use crate::nn::{Context, Scope, ops};

/// Multi-head self-attention with its projections (`qkv`, `proj`).
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    dim: usize,
}

impl Attention {
    /// # Errors
    /// If `heads` does not divide `dim`.
    pub fn new(scope: &Scope, dim: usize, heads: usize) -> Result<Self> {
        if heads == 0 || dim == 0 || !dim.is_multiple_of(heads) {
            return Err(Error::Value(format!("{dim} channels cannot be divided among {heads} heads")));
        }
        Ok(Self {
            qkv: Linear::new(&scope.child("qkv"), dim, 3 * dim),
            proj: Linear::new(&scope.child("proj"), dim, dim),
            heads,
            dim,
        })
    }

    /// As a branch of a chain of half blocks.
    pub fn branch(&self) -> Branch<'_> {
        Branch::SelfAttention { qkv: self.qkv.params(), proj: self.proj.params(), heads: self.heads }
    }

    /// `attention(x)` on `[B, N, D]`, with a differentiable bias of the scores, `[heads, N, N]`.
    pub fn forward_with_bias(&self, x: T3, bias: T3, ctx: &Context) -> Result<T3> {
        let output = ops::attention(self.qkv.forward(x, ctx)?, self.heads, Some(bias))?;
        self.proj.forward(output, ctx)
    }

    /// Multiply-accumulates for one image of that many tokens: projections, scores, weighted values.
    pub fn macs(&self, tokens: usize) -> u64 {
        let pairs = (tokens * tokens) as u64;
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * self.dim as u64
    }
}
