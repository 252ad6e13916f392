//! A learned affine map of the channels.

use crate::ops::LinearParams;
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, Param, Scope, ops};

/// `y = x W^T + b`: a linear layer, or a 1x1 convolution of a map with its channels last.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[O, I]`, or `[O, I, 1, 1]` ([`Linear::pointwise`]).
    pub weight: Param,
    /// `[O]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// A linear layer initialised as in MAE: weight Xavier-uniform, bias zero.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self::with_init(scope, inputs, outputs, &Init::xavier_uniform(inputs, outputs), Some(&Init::ZEROS))
    }

    /// [`Linear::new`] without a bias.
    pub fn without_bias(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self::with_init(scope, inputs, outputs, &Init::xavier_uniform(inputs, outputs), None)
    }

    /// A linear layer with given initialisers; no bias if it has none.
    pub fn with_init(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        weight: &Init,
        bias: Option<&Init>,
    ) -> Self {
        Self {
            weight: scope.param("weight", &[outputs, inputs], weight),
            bias: bias.map(|init| scope.param("bias", &[outputs], init)),
        }
    }

    /// A 1x1 convolution, weight `[O, I, 1, 1]`, with PyTorch's default initialisation of convolutions.
    pub fn pointwise(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        let init = Init::kaiming_uniform(inputs);
        Self {
            weight: scope.param("weight", &[outputs, inputs, 1, 1], &init),
            bias: Some(scope.param("bias", &[outputs], &init)),
        }
    }

    /// `[.., I]` to `[.., O]`.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        ops::linear(x, self.params(), &ctx.tape)
    }

    /// `[B, N, I]`, given as plain values that need no gradient, to `[B, N, O]`.
    pub fn forward_rows(&self, rows: Vec<f32>, shape: (usize, usize), ctx: &Context) -> Result<Tensor> {
        ops::linear_rows(rows, shape, self.params(), &ctx.tape)
    }

    /// Its parameters, for an operation that it is a part of.
    pub fn params(&self) -> LinearParams<'_> {
        LinearParams { weight: &self.weight, bias: self.bias.as_ref() }
    }

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        tokens as u64 * self.weight.numel() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::random::{Purpose, stream};
    use crate::tape::backward;
    use crate::tensor::Tensor;
    use crate::testing::{loss, noise};

    #[test]
    fn as_a_first_layer_it_learns_from_constants() {
        let (scope, ctx) = (Scope::new(0), Context::train(stream(Purpose::Step, &[0])));
        let x = Tensor::from_vec(noise(1, 12), (2, 2, 3), &Tape::none()).unwrap();
        backward(loss(Linear::new(&scope, 3, 5).forward(x, &ctx).unwrap())).unwrap();
        assert!(scope.params().iter().all(|param| param.grad().is_some_and(|grad| grad[0] != 0.0)));
    }

    #[test]
    fn shapes_and_first_values_are_those_of_the_official_layers() {
        let scope = Scope::new(0);
        let linear = Linear::new(&scope.child("fc"), 3, 5);
        let conv = Linear::pointwise(&scope.child("conv"), 3, 5);
        let plain = Linear::without_bias(&scope.child("plain"), 3, 5);
        let params = scope.params();
        let shapes: Vec<_> = params.iter().map(|param| (param.name(), param.shape())).collect();
        assert_eq!(
            shapes,
            [
                ("fc.weight", &[5, 3][..]),
                ("fc.bias", &[5]),
                ("conv.weight", &[5, 3, 1, 1]),
                ("conv.bias", &[5]),
                ("plain.weight", &[5, 3]),
            ]
        );
        let largest = |param: &Param| param.values().iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!((0.5..=(6.0_f32 / 8.0).sqrt()).contains(&largest(&linear.weight)));
        assert_eq!(linear.bias.as_ref().map(largest), Some(0.0));
        let bound = 1.0 / 3.0_f32.sqrt();
        assert!(largest(&conv.weight) <= bound && conv.bias.as_ref().map(largest) > Some(0.0));
        assert!(plain.bias.is_none());
        assert_eq!(linear.macs(7), 7 * 15);
    }
}
