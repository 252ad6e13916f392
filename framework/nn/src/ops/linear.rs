//! `y = x W^T + b` over the last axis.

use crate::tensor::{Error, Result, Tensor};
use crate::{Param, Tape};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The parameters of a linear layer.
///
/// The first axis of the weight is `O`, the others together are `I`, so the weight of a 1x1 convolution `[O, I, 1, 1]` or a
/// patch projection `[O, C, k, k]` fits as well.
#[derive(Debug, Clone, Copy)]
pub struct LinearParams<'a> {
    /// `[O, ..]`.
    pub weight: &'a Param,
    /// `[O]`.
    pub bias: Option<&'a Param>,
}

impl LinearParams<'_> {
    /// That the parameters fit an input of so many channels, and have values. Returns the number of outputs.
    pub(super) fn check(self, inputs: usize) -> Result<usize> {
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
        super::check_bias(bias, outputs)?;
        for param in std::iter::once(weight).chain(bias) {
            super::check_allocated(param)?;
        }
        Ok(outputs)
    }

    /// [`LinearParams::check`] for a layer of which so many outputs are expected.
    pub(super) fn check_outputs(self, inputs: usize, outputs: usize) -> Result<()> {
        match self.check(inputs)? {
            found if found == outputs => Ok(()),
            found => Err(Error::Shape(format!(
                "{}: it has {found} outputs where {outputs} are needed",
                self.weight.name()
            ))),
        }
    }
}

/// `[.., I]` to `[.., O]`. The gradients of the parameters are recorded on `tape`, also where `x` is a constant.
///
/// # Errors
/// If the weight or the bias does not fit the input.
pub fn linear(x: Tensor, params: LinearParams<'_>, tape: &Tape) -> Result<Tensor> {
    let inputs = x.dims().last().copied().unwrap_or_default();
    let outputs = params.check(inputs)?;
    implementation::linear(x, outputs, params, tape)
}

/// [`linear`] on `[B, N, I]` given as plain values, which need no gradient: the pixels of the first patch embedding.
///
/// # Errors
/// If the weight or the bias does not fit the input.
pub fn linear_rows(
    rows: Vec<f32>,
    (batch, tokens): (usize, usize),
    params: LinearParams<'_>,
    tape: &Tape,
) -> Result<Tensor> {
    let count = (batch * tokens).max(1);
    if !rows.len().is_multiple_of(count) {
        return Err(Error::Shape(format!("{} values do not make {batch} x {tokens} rows", rows.len())));
    }
    let outputs = params.check(rows.len() / count)?;
    implementation::linear_rows(rows, (batch, tokens, outputs), params, tape)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use super::LinearParams;
    use crate::Tape;
    use crate::kernels::Buffer;
    use crate::ops::layers::Linear;
    use crate::ops::operation_on;
    use crate::tensor::{Result, Tensor};

    pub fn linear(x: Tensor, outputs: usize, params: LinearParams<'_>, tape: &Tape) -> Result<Tensor> {
        let shape = x.shape().with_last(outputs);
        let layer = Linear::new(params);
        let wants_input = x.tape().is_recording();
        operation_on(tape, vec![x], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let y = layer.forward(&x);
            let kept = layer.keeps_input().then_some(x);
            let backward = move |grad: Buffer| {
                layer.backward_params(&grad, kept.as_deref().unwrap_or_default());
                wants_input.then(|| layer.backward_input(&grad)).into_iter().collect()
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }

    pub fn linear_rows(
        rows: Vec<f32>,
        shape: (usize, usize, usize),
        params: LinearParams<'_>,
        tape: &Tape,
    ) -> Result<Tensor> {
        let layer = Linear::new(params);
        operation_on(tape, Vec::new(), shape, move |_, record| {
            let y = layer.forward(&rows);
            let backward = move |grad: Buffer| {
                layer.backward_params(&grad, &rows);
                Vec::new()
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes2, Axis};
    use dfdx::tensor::Merge as _;
    use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

    use super::LinearParams;
    use crate::Tape;
    use crate::ops::rows::T2;
    use crate::tensor::{Result, Tensor};

    pub fn linear(x: Tensor, outputs: usize, params: LinearParams<'_>, tape: &Tape) -> Result<Tensor> {
        let LinearParams { weight, bias } = params;
        let (shape, inputs) = (x.shape(), weight.numel() / outputs);
        let count = shape.numel() / inputs;
        let tape = x.tape().merge(tape.clone());
        let weight = weight.tensor(&tape)?.try_reshape_like(&(outputs, inputs))?;
        // One product: the backward of a batched one goes through the batch one by one.
        let mut y: T2 = x.typed((count, inputs))?.try_matmul(weight.try_permute::<_, Axes2<1, 0>>()?)?;
        if let Some(bias) = bias {
            y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(count, outputs))?)?;
        }
        Tensor::from_typed(y)?.reshape(shape.with_last(outputs))
    }

    pub fn linear_rows(
        rows: Vec<f32>,
        (batch, tokens, outputs): (usize, usize, usize),
        params: LinearParams<'_>,
        tape: &Tape,
    ) -> Result<Tensor> {
        let inputs = rows.len() / (batch * tokens).max(1);
        linear(Tensor::from_vec(rows, (batch, tokens, inputs), &Tape::none())?, outputs, params, tape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{LinearParams, composed, linear, linear_rows};
    use crate::tape::backward;
    use crate::tensor::{Error, Tensor};
    use crate::testing::{assert_close, loss, noise, noise_param, run, take_grad, wide};
    use crate::{Init, Param, Scope, Tape};

    const SHAPE: (usize, usize, usize) = (2, 3, 8);

    fn with<'a>(weight: &'a Param, bias: Option<&'a Param>) -> LinearParams<'a> {
        LinearParams { weight, bias }
    }

    #[test]
    fn equals_the_composed_operation() {
        let x = noise(1, 48);
        let (weight, bias) = (noise_param(2, &[5, 8]), noise_param(3, &[5]));
        for bias in [None, Some(&bias)] {
            let params: Vec<_> = std::iter::once(&weight).chain(bias).collect();
            let own = run(&x, SHAPE, &params, |x| linear(x, with(&weight, bias), &Tape::none()));
            let expected =
                run(&x, SHAPE, &params, |x| composed::linear(x, 5, with(&weight, bias), &Tape::none()));
            own.assert_close(&expected, 1e-6);
        }
    }

    #[test]
    fn the_weights_of_convolutions_and_matrices_work_alike() {
        let x = noise(1, 48);
        let (weight, kernel, bias) =
            (noise_param(2, &[5, 8]), noise_param(2, &[5, 2, 2, 2]), noise_param(3, &[5]));
        let expected =
            run(&x, SHAPE, &[&weight, &bias], |x| linear(x, with(&weight, Some(&bias)), &Tape::none()));
        assert_eq!(
            run(&x, SHAPE, &[&kernel, &bias], |x| linear(x, with(&kernel, Some(&bias)), &Tape::none())),
            expected
        );
        assert_eq!(
            run(&x, (6, 8), &[&weight, &bias], |x| linear(x, with(&weight, Some(&bias)), &Tape::none())),
            expected
        );

        let y = linear_rows(x, (2, 3), with(&weight, Some(&bias)), &Tape::new()).unwrap();
        assert_eq!(y.to_vec().unwrap(), expected.values);
        backward(loss(y)).unwrap();
        assert_eq!([take_grad(&weight), take_grad(&bias)], expected.grads[1..]);
        let y =
            composed::linear_rows(noise(1, 48), (2, 3, 5), with(&weight, Some(&bias)), &Tape::new()).unwrap();
        assert_close(&y.to_vec().unwrap(), &wide(&expected.values), 1e-6);
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient_and_passes_that_of_its_input() {
        let weight = noise_param(2, &[5, 8]);
        let frozen = Scope::new(0).frozen("w", &[5, 8], &Init::Values(noise(2, 40)));
        let own = run(&noise(1, 48), SHAPE, &[], |x| linear(x, with(&frozen, None), &Tape::none()));
        let trained =
            run(&noise(1, 48), SHAPE, &[&weight], |x| linear(x, with(&weight, None), &Tape::none()));
        assert_eq!(own.grads[0], trained.grads[0]);
        assert!(frozen.grad().is_none());
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let x = || Tensor::from_vec(noise(1, 48), SHAPE, &Tape::none()).unwrap();
        let (weight, bias) = (noise_param(2, &[5, 8]), noise_param(3, &[5]));
        for (weight, bias) in [
            (noise_param(0, &[5, 7]), bias.clone()),
            (noise_param(0, &[]), bias.clone()),
            (weight.clone(), noise_param(0, &[6])),
        ] {
            assert!(matches!(linear(x(), with(&weight, Some(&bias)), &Tape::none()), Err(Error::Shape(_))));
        }
        let described = Scope::describe().param("w", &[5, 8], &Init::ZEROS);
        assert!(matches!(linear(x(), with(&described, None), &Tape::none()), Err(Error::Value(_))));
        let rows = linear_rows(noise(1, 47), (2, 3), with(&weight, None), &Tape::none());
        assert!(matches!(rows, Err(Error::Shape(_))));
    }
}
