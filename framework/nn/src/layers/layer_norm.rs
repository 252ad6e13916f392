//! Layer normalisation with its learned scale and shift.

use crate::backend::layer_norm::{self, Statistics};
use crate::backend::{Buffer, Values, zeros};
use crate::error::Result;
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, Scope, Shape};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the channels, with the biased variance (Ba et al. 2016,
/// <https://arxiv.org/abs/1607.06450>).
///
/// Mind `eps`: the official models use 1e-5 in convolution blocks and patch embeddings, 1e-6 elsewhere.
///
/// ```
/// use convmae_nn::layers::LayerNorm;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let norm = LayerNorm::new(&scope.child("norm"), 2, 0.0);
/// let x = Tensor::from_vec(vec![1.0, 5.0, 7.0, 3.0], (1, 2, 2), &ctx.tape)?;
/// assert_eq!(norm.forward(x, &ctx)?.to_vec()?, [-1.0, 1.0, 1.0, -1.0]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
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

    /// `[.., C]` to `[.., C]`.
    ///
    /// # Errors
    /// If the input has other channels, or the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        apply(self.clone(), x, ctx)
    }

    /// That the parameters fit so many channels, and have values.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn check(&self, channels: usize) -> Result<()> {
        self.weight.check_channels(channels)?;
        self.bias.check_channels(channels)
    }

    /// The normalised rows `[R, C]` as products take them, and what the backward needs of each.
    ///
    /// # Errors
    /// If the device fails.
    pub fn operand_rows(&self, x: &Values) -> Result<(Buffer, Statistics)> {
        layer_norm::operand(x, &self.weight.values(), &self.bias.values(), self.eps)
    }

    /// [`LayerNorm::operand_rows`] once more.
    ///
    /// # Errors
    /// If the device fails.
    pub fn recompute(&self, x: &Values, statistics: &Statistics) -> Result<Buffer> {
        layer_norm::recompute(x, statistics, &self.weight.values(), &self.bias.values())
    }

    /// Adds the gradients of the parameters, and that of the rows to `grad_x`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward_onto(
        &self,
        grad: &Values,
        x: &Values,
        statistics: &Statistics,
        grad_x: &mut Buffer,
    ) -> Result<()> {
        Param::accumulate_grads([Some(&self.weight), Some(&self.bias)], |sums| {
            layer_norm::backward_onto(grad, x, statistics, &self.weight.values(), grad_x, sums)
        })
    }
}

impl Layer for LayerNorm {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.check(input.channels())?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    fn forward(self: Box<Self>, x: Buffer, _: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let (y, statistics) = layer_norm::forward(&x, &self.weight.values(), &self.bias.values(), self.eps)?;
        let backward = move |grad: Buffer| {
            let mut grad_x = zeros(x.len())?;
            self.backward_onto(&grad, &x, &statistics, &mut grad_x)?;
            Ok(Some(grad_x))
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::error::Error;
    use crate::oracle;
    use crate::testing::{context, noise, noise_param, run};

    fn norm(channels: usize) -> LayerNorm {
        LayerNorm { weight: noise_param(2, &[channels]), bias: noise_param(3, &[channels]), eps: 1e-5 }
    }

    #[test]
    fn equals_the_composed_operation() {
        let (x, norm) = (noise(1, 60), norm(10));
        let params = [&norm.weight, &norm.bias];
        let own = run(&x, (2, 3, 10), &params, |x| norm.forward(x, &context(false)));
        own.assert_close(&run(&x, (2, 3, 10), &params, |x| oracle::layer_norm(x, &norm)), 1e-5);
    }

    #[test]
    fn other_channels_are_an_error() {
        let x = || Tensor::from_vec(noise(1, 60), (2, 3, 10), &Tape::none()).unwrap();
        let narrow = LayerNorm { bias: noise_param(3, &[9]), ..norm(10) };
        assert!(matches!(narrow.forward(x(), &context(false)), Err(Error::Shape(_))));
        assert!(matches!(norm(9).forward(x(), &context(false)), Err(Error::Shape(_))));
    }
}
