//! Layer normalisation with its learned scale and shift.

use crate::ops::NormParams;
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, Param, Scope, ops};

/// `LayerNorm` over the channels. Mind `eps`: the official models use 1e-5 in convolution blocks and patch embeddings, 1e-6
/// elsewhere.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// `[C]`, ones at first.
    pub weight: Param,
    /// `[C]`, zeros at first.
    pub bias: Param,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// A `LayerNorm` of `channels`.
    pub fn new(scope: &Scope, channels: usize, eps: f32) -> Self {
        Self {
            weight: scope.param("weight", &[channels], &Init::ONES),
            bias: scope.param("bias", &[channels], &Init::ZEROS),
            eps,
        }
    }

    /// `[B, N, C]` to `[B, N, C]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        ops::layer_norm(x, self.params(), &ctx.tape)
    }

    /// Its parameters, for an operation that it is a part of.
    pub fn params(&self) -> NormParams<'_> {
        NormParams { weight: &self.weight, bias: &self.bias, eps: self.eps }
    }
}
