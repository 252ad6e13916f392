//! The transformer block.

use super::{Attention, DropPath, LayerNorm, Mlp};
use crate::nn::tensor::{Result, T3};
use crate::nn::{Context, Scope, ops};

/// The sizes of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Number of attention heads.
    pub heads: usize,
    /// Width of the MLP in relation to that of the block; the width is rounded down.
    pub mlp_ratio: f32,
    /// Of both `LayerNorm`s.
    pub eps: f32,
    /// Probability to drop each of the two branches.
    pub drop_path: f32,
}

/// A pre-norm transformer block: `x += attn(norm1(x))`, then `x += mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
}

impl Block {
    /// A block of width `dim`.
    ///
    /// # Errors
    /// If the number of heads does not divide `dim`.
    pub fn new(scope: &Scope, dim: usize, config: &BlockConfig) -> Result<Self> {
        let hidden = (dim as f32 * config.mlp_ratio) as usize;
        Ok(Self {
            norm1: LayerNorm::new(&scope.child("norm1"), dim, config.eps),
            attn: Attention::new(&scope.child("attn"), dim, config.heads)?,
            norm2: LayerNorm::new(&scope.child("norm2"), dim, config.eps),
            mlp: Mlp::new(&scope.child("mlp"), dim, hidden),
            drop_path: DropPath { probability: config.drop_path },
        })
    }

    /// `[B, N, D]` to `[B, N, D]`.
    pub fn forward(&self, x: T3, ctx: &Context) -> Result<T3> {
        self.forward_with_bias(x, None, ctx)
    }

    /// [`Block::forward`] with a differentiable bias of the attention scores, `[heads, N, N]`.
    pub fn forward_with_bias(&self, x: T3, bias: Option<T3>, ctx: &Context) -> Result<T3> {
        let branch = self.attn.forward_with_bias(self.norm1.forward(x.clone(), ctx)?, bias, ctx)?;
        let x = ops::add(x, self.drop_path.forward(branch, ctx)?)?;
        let branch = self.mlp.forward(self.norm2.forward(x.clone(), ctx)?, ctx)?;
        ops::add(x, self.drop_path.forward(branch, ctx)?)
    }

    /// Multiply-accumulates for one image of that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.attn.macs(tokens) + self.mlp.macs(tokens)
    }
}
