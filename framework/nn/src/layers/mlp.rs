//! The feed-forward half of a block.

use super::Linear;
use crate::Scope;
use crate::ops::blocks::Branch;

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

    /// As a branch of a chain of half blocks.
    pub fn branch(&self) -> Branch<'_> {
        Branch::Mlp { fc1: self.fc1.params(), fc2: self.fc2.params() }
    }

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.fc1.macs(tokens) + self.fc2.macs(tokens)
    }
}
