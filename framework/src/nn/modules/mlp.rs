//! The feed-forward half of a block.

use super::Linear;
use crate::nn::tensor::{Result, T3};
use crate::nn::{Context, Scope, ops};

/// Linear, GELU, linear (`fc1`, `fc2`).
#[derive(Debug, Clone)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// Of linear layers (the official `Mlp`).
    pub fn new(scope: &Scope, dim: usize, hidden: usize) -> Self {
        Self {
            fc1: Linear::new(&scope.child("fc1"), dim, hidden),
            fc2: Linear::new(&scope.child("fc2"), hidden, dim),
        }
    }

    /// Of 1x1 convolutions (the official `CMlp`).
    pub fn pointwise(scope: &Scope, dim: usize, hidden: usize) -> Self {
        Self {
            fc1: Linear::pointwise(&scope.child("fc1"), dim, hidden),
            fc2: Linear::pointwise(&scope.child("fc2"), hidden, dim),
        }
    }

    /// `[B, N, C]` to `[B, N, C]`.
    pub fn forward(&self, x: T3, ctx: &Context) -> Result<T3> {
        let hidden = ops::gelu(self.fc1.forward(x, ctx)?)?;
        self.fc2.forward(hidden, ctx)
    }

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.fc1.macs(tokens) + self.fc2.macs(tokens)
    }
}
