//! The self-attention of a transformer block.

use super::Linear;
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

    /// `[B, N, D]` to `[B, N, D]`.
    pub fn forward(&self, x: T3, ctx: &Context) -> Result<T3> {
        self.forward_with_bias(x, None, ctx)
    }

    /// [`Attention::forward`] with a differentiable bias of the scores, `[heads, N, N]`.
    pub fn forward_with_bias(&self, x: T3, bias: Option<T3>, ctx: &Context) -> Result<T3> {
        let output = ops::attention(self.qkv.forward(x, ctx)?, self.heads, bias)?;
        self.proj.forward(output, ctx)
    }

    /// Multiply-accumulates for one image of that many tokens: projections, scores, weighted values.
    pub fn macs(&self, tokens: usize) -> u64 {
        let pairs = (tokens * tokens) as u64;
        self.qkv.macs(tokens) + self.proj.macs(tokens) + 2 * pairs * self.dim as u64
    }
}
