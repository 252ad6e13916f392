//! Dropout of elements, and of whole branches (stochastic depth, Huang et al. 2016).

use dfdx::shapes::{HasShape as _, Shape};
use rand::Rng as _;

use crate::nn::tensor::{Result, T3, Tensor};
use crate::nn::{Context, ops};

/// Drops a residual branch for whole samples in training, as timm's `DropPath`: a kept sample is divided by the probability
/// to keep it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropPath {
    /// The probability to drop.
    pub probability: f32,
}

impl DropPath {
    /// `[B, N, C]` to `[B, N, C]`.
    pub fn forward(&self, x: T3, ctx: &Context) -> Result<T3> {
        if !ctx.training || self.probability <= 0.0 {
            return Ok(x);
        }
        let factors = keep_factors(x.shape().0, self.probability, ctx);
        ops::scale_samples(x, factors)
    }
}

/// Drops single elements in training, as PyTorch's `Dropout`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability to drop.
    pub probability: f32,
}

impl Dropout {
    /// The same shape.
    pub fn forward<S: Shape>(&self, x: Tensor<S>, ctx: &Context) -> Result<Tensor<S>> {
        if !ctx.training || self.probability <= 0.0 {
            return Ok(x);
        }
        let factors = keep_factors(x.shape().num_elements(), self.probability, ctx);
        ops::dropout(x, factors)
    }
}

/// 0 with the given probability, else the inverse of the probability to keep.
fn keep_factors(count: usize, probability: f32, ctx: &Context) -> Vec<f32> {
    let keep = 1.0 - probability;
    let mut rng = ctx.rng();
    (0..count).map(|_| if rng.random::<f32>() < keep { keep.recip() } else { 0.0 }).collect()
}
