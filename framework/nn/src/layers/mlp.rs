//! The feed-forward branch of a block.

use super::{Branch, Linear};
use crate::backend::{Buffer, Values};
use crate::error::Result;
use crate::ops::Layer as _;
use crate::{Scope, Shape};

/// `fc2(gelu(fc1(x)))`.
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

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        self.fc1.macs(tokens) + self.fc2.macs(tokens)
    }
}

impl Branch for Mlp {
    /// What goes into the activation.
    type Saved = Buffer;

    fn check(&self, input: Shape) -> Result<()> {
        let hidden = self.fc1.check(input.channels())?;
        self.fc2.check_outputs(hidden, input.channels())
    }

    fn may_train(&self) -> bool {
        self.fc1.may_train() || self.fc2.may_train()
    }

    fn forward(&self, x: &Values, _: Shape, residual: Option<&Values>) -> Result<(Buffer, Buffer)> {
        let [hidden, activations] = self.fc1.forward_gelu(x)?;
        Ok((self.fc2.forward_rows(&activations, residual)?, hidden))
    }

    fn recompute(&self, x: &Values, _: Shape) -> Result<Buffer> {
        self.fc1.forward_rows(x, None)
    }

    fn backward(&self, x: &Values, mut hidden: Buffer, grad: &Values, _: Shape) -> Result<Buffer> {
        let grad_hidden = self.fc2.backward_input_gelu(grad, &mut hidden)?;
        self.fc2.backward_params(grad, Some(&hidden))?;
        drop(hidden);
        self.fc1.backward_params(&grad_hidden, Some(x))?;
        self.fc1.backward_input(&grad_hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::residual::tests::{SHAPE, assert_equals_composition, refused};
    use crate::oracle;

    #[test]
    fn its_residual_equals_the_composition() {
        for build in [Mlp::new, Mlp::pointwise] {
            assert_equals_composition(
                |scope| build(scope, 6, 10),
                |mlp, x| oracle::linear(oracle::gelu(oracle::linear(x, &mlp.fc1)?)?, &mlp.fc2),
            );
        }
        assert!(refused(Mlp::new(&Scope::new(0), 5, 10), SHAPE));
    }
}
