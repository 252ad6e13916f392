//! The feed-forward half of a block.

use super::{LayerNorm, Linear};
use crate::nn::ops::blocks::Residual;
use crate::nn::tensor::{Result, T3};
use crate::nn::{Scope, ops};

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

    /// `x + factors * mlp(norm(x))` on `[B, N, C]`.
    pub fn residual(&self, x: T3, norm: &LayerNorm, how: Residual<'_>) -> Result<T3> {
        ops::blocks::mlp(x, norm.params(), self.fc1.params(), self.fc2.params(), how)
    }

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.fc1.macs(tokens) + self.fc2.macs(tokens)
    }
}
