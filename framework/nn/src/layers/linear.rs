//! A learned affine map of the channels.

use crate::backend::{Buffer, Values, chunks, linear};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, Scope, Shape};

/// `y = x W^T + b` over the last axis: a linear layer, or a 1x1 convolution of a map with its channels last.
///
/// The first axis of the weight is `O`, the others together are `I`, so the weight of a 1x1 convolution `[O, I, 1, 1]` or of a patch
/// projection `[O, C, k, k]` fits as well.
///
/// ```
/// use convmae_nn::layers::Linear;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let fc = Linear::new(&scope.child("fc"), 2, 3);
/// fc.weight.set(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0])?;
/// let x = Tensor::from_vec(vec![2.0, 5.0], (1, 1, 2), &ctx.tape)?;
/// let y = fc.forward(x, &ctx)?;
/// assert_eq!((y.dims(), y.to_vec()?), (&[1, 1, 3][..], vec![2.0, 5.0, 7.0]));
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[O, I]`, or `[O, I, 1, 1]` ([`Linear::pointwise`]).
    pub weight: Param,
    /// `[O]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// A linear layer initialised as in MAE: weight Xavier-uniform, unless the scope says otherwise
    /// ([`Scope::with_linear_init`]), bias zero.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self::with_init(scope, inputs, outputs, &scope.linear_init(inputs, outputs), Some(&Init::ZEROS))
    }

    /// [`Linear::new`] without a bias.
    pub fn without_bias(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self::with_init(scope, inputs, outputs, &scope.linear_init(inputs, outputs), None)
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
    ///
    /// # Errors
    /// If the input has other channels, or the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        apply(self.clone(), x, ctx)
    }

    /// Multiply-accumulates for that many tokens.
    pub fn macs(&self, tokens: usize) -> u64 {
        tokens as u64 * self.weight.numel() as u64
    }

    /// That the parameters fit an input of so many channels, and have values. Returns the number of outputs.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn check(&self, inputs: usize) -> Result<usize> {
        let Self { weight, bias } = self;
        let (&outputs, rest) = weight
            .shape()
            .split_first()
            .ok_or_else(|| Error::Shape(format!("{}: a scalar is no weight", weight.name())))?;
        let expected: usize = rest.iter().product();
        if expected != inputs || inputs == 0 || outputs == 0 {
            return Err(Error::Shape(format!(
                "{}: a weight of shape {:?} takes {expected} channels, the input has {inputs}",
                weight.name(),
                weight.shape()
            )));
        }
        weight.check_allocated()?;
        bias.iter().try_for_each(|bias| bias.check_channels(outputs))?;
        Ok(outputs)
    }

    /// [`Linear::check`] where so many outputs are expected.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn check_outputs(&self, inputs: usize, outputs: usize) -> Result<()> {
        match self.check(inputs)? {
            found if found == outputs => Ok(()),
            found => Err(Error::Shape(format!(
                "{}: it has {found} outputs where {outputs} are needed",
                self.weight.name()
            ))),
        }
    }

    /// Rows `[R, I]` to `[R, O]`, added to `residual` if there is one.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward_rows(&self, x: &Values, residual: Option<&Values>) -> Result<Buffer> {
        let weight = self.weight.operand()?;
        let [inputs, outputs] = self.size();
        if let Some(residual) = residual {
            let bias = self.bias.as_ref().map(Param::values);
            linear::forward_residual(x, &weight, bias.as_deref(), inputs, outputs, residual)
        } else {
            let bias = self.bias.as_ref().map(|bias| bias.values_as(x)).transpose()?;
            linear::forward(x, &weight, bias.as_deref(), inputs, outputs)
        }
    }

    /// Rows `[R, I]` to `[R, O]`, and the GELU of these.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward_gelu(&self, x: &Values) -> Result<[Buffer; 2]> {
        let weight = self.weight.operand()?;
        let bias = self.bias.as_ref().map(|bias| bias.values_as(x)).transpose()?;
        let [inputs, outputs] = self.size();
        linear::forward_gelu(x, &weight, bias.as_deref(), inputs, outputs)
    }

    /// Adds the gradients of the parameters. The input `x` is needed by a weight that is trained.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward_params(&self, grad: &Values, x: Option<&Values>) -> Result<()> {
        let [inputs, outputs] = self.size();
        let params = [x.map(|_| &self.weight), self.bias.as_ref()];
        Param::accumulate_grads(params, |[weight, bias]| match (x, weight, bias) {
            (Some(x), Some(weight), Some(bias)) => {
                linear::backward_params(grad, x, inputs, outputs, weight, bias)
            }
            (Some(x), Some((sum, mode)), None) => {
                linear::backward_weight(grad, x, inputs, outputs, sum, mode)
            }
            (_, _, Some((sum, mode))) => chunks::sum_rows(grad, sum, mode),
            (_, _, None) => Ok(()),
        })
    }

    /// The gradient of the input, `[R, I]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward_input(&self, grad: &Values) -> Result<Buffer> {
        let (weight, [inputs, outputs]) = (self.weight.operand()?, self.size());
        linear::backward_input(grad, &weight, inputs, outputs)
    }

    /// The gradient of `hidden`, whose GELU is the input of this layer; `hidden` becomes that input again.
    ///
    /// # Errors
    /// If the device fails.
    pub fn backward_input_gelu(&self, grad: &Values, hidden: &mut Values) -> Result<Buffer> {
        let (weight, [inputs, outputs]) = (self.weight.operand()?, self.size());
        linear::backward_input_gelu(grad, &weight, inputs, outputs, hidden)
    }

    /// Inputs and outputs.
    fn size(&self) -> [usize; 2] {
        let outputs = self.weight.shape().first().copied().unwrap_or_default();
        [self.weight.numel() / outputs.max(1), outputs]
    }
}

impl Layer for Linear {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let outputs = self.check(input.channels())?;
        Ok(input.with_last(outputs))
    }

    fn may_train(&self) -> bool {
        self.weight.requires_grad() || self.bias.as_ref().is_some_and(Param::requires_grad)
    }

    fn forward(self: Box<Self>, x: Buffer, _: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let y = self.forward_rows(&x, None)?;
        // A frozen weight needs no input kept.
        let saved = self.weight.requires_grad().then_some(x);
        let backward = move |grad: Buffer| {
            self.backward_params(&grad, saved.as_deref())?;
            pass.wants_input.then(|| self.backward_input(&grad)).transpose()
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::backward;
    use crate::random::{Purpose, stream};
    use crate::testing::{context, loss, noise, noise_param, run, take_grad};
    use crate::{Tape, oracle};

    #[test]
    fn as_a_first_layer_it_learns_from_constants() {
        let (scope, ctx) = (Scope::new(0), Context::train(stream(Purpose::Step, &[0])));
        let x = Tensor::from_vec(noise(1, 12), (2, 2, 3), &Tape::none()).unwrap();
        backward(loss(Linear::new(&scope, 3, 5).forward(x, &ctx).unwrap())).unwrap();
        assert!(scope.params().iter().all(|param| take_grad(param)[0] != 0.0));
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
        let largest =
            |param: &Param| param.to_vec().unwrap().iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!((0.5..=(6.0_f32 / 8.0).sqrt()).contains(&largest(&linear.weight)));
        assert_eq!(linear.bias.as_ref().map(largest), Some(0.0));
        let bound = 1.0 / 3.0_f32.sqrt();
        assert!(largest(&conv.weight) <= bound && conv.bias.as_ref().map(largest) > Some(0.0));
        assert!(plain.bias.is_none());
        assert_eq!(linear.macs(7), 7 * 15);
    }

    const SHAPE: (usize, usize, usize) = (2, 3, 8);

    fn linear(weight: &[usize], bias: bool) -> Linear {
        Linear { weight: noise_param(2, weight), bias: bias.then(|| noise_param(3, &[5])) }
    }

    fn params(linear: &Linear) -> Vec<&Param> {
        std::iter::once(&linear.weight).chain(&linear.bias).collect()
    }

    #[test]
    fn equals_the_composed_operation() {
        let x = noise(1, 48);
        for bias in [false, true] {
            let linear = linear(&[5, 8], bias);
            let own = run(&x, SHAPE, &params(&linear), |x| linear.forward(x, &context(false)));
            let expected = run(&x, SHAPE, &params(&linear), |x| oracle::linear(x, &linear));
            own.assert_close(&expected, 1e-6);
        }
    }

    #[test]
    fn the_weights_of_convolutions_and_matrices_work_alike_on_any_rank() {
        let x = noise(1, 48);
        let outcome = |weight: &[usize], shape: Shape| {
            let linear = linear(weight, true);
            run(&x, shape, &params(&linear), |x| linear.forward(x, &context(false)))
        };
        let expected = outcome(&[5, 8], SHAPE.into());
        assert_eq!(outcome(&[5, 2, 2, 2], SHAPE.into()), expected);
        assert_eq!(outcome(&[5, 8], (6, 8).into()), expected);
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient_and_passes_that_of_its_input() {
        let trained = linear(&[5, 8], false);
        let weight = Scope::new(0).frozen("w", &[5, 8], &Init::Values(noise(2, 40)));
        let frozen = Linear { weight, bias: None };
        let own = run(&noise(1, 48), SHAPE, &[], |x| frozen.forward(x, &context(false)));
        let other = run(&noise(1, 48), SHAPE, &[&trained.weight], |x| trained.forward(x, &context(false)));
        assert_eq!(own.grads[0], other.grads[0]);
        assert!(frozen.weight.grad().is_none());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let x = || Tensor::from_vec(noise(1, 48), SHAPE, &Tape::none()).unwrap();
        let wide = Linear { bias: Some(noise_param(0, &[6])), ..linear(&[5, 8], false) };
        for linear in [linear(&[5, 7], true), linear(&[], true), wide] {
            assert!(matches!(linear.forward(x(), &context(false)), Err(Error::Shape(_))));
        }
        let described = Linear::without_bias(&Scope::describe(), 8, 5);
        assert!(matches!(described.forward(x(), &context(false)), Err(Error::Value(_))));
    }
}
