//! Layer normalisation over the last axis.

use crate::tensor::{Error, Result, Tensor};
use crate::{Param, Tape};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The parameters of a layer normalisation.
#[derive(Debug, Clone, Copy)]
pub struct NormParams<'a> {
    /// `[C]`.
    pub weight: &'a Param,
    /// `[C]`.
    pub bias: &'a Param,
    /// Added to the variance.
    pub eps: f32,
}

impl NormParams<'_> {
    /// That the parameters fit so many channels, and have values.
    pub(super) fn check(self, channels: usize) -> Result<()> {
        for param in [self.weight, self.bias] {
            if param.numel() != channels || channels == 0 {
                return Err(Error::Shape(format!(
                    "{}: {} values for {channels} channels",
                    param.name(),
                    param.numel()
                )));
            }
            super::check_allocated(param)?;
        }
        Ok(())
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the channels, the last axis of `[.., C]`, with the biased variance.
/// The gradients of the parameters are recorded on `tape`, also where `x` is a constant.
///
/// # Errors
/// If the weight or the bias does not have `C` values.
pub fn layer_norm(x: Tensor, params: NormParams<'_>, tape: &Tape) -> Result<Tensor> {
    params.check(x.dims().last().copied().unwrap_or_default())?;
    implementation::layer_norm(x, params, tape)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use super::NormParams;
    use crate::Tape;
    use crate::kernels::Buffer;
    use crate::ops::layers::Norm;
    use crate::ops::operation_on;
    use crate::tensor::{Result, Tensor};

    pub fn layer_norm(x: Tensor, params: NormParams<'_>, tape: &Tape) -> Result<Tensor> {
        let shape = x.shape();
        let norm = Norm::new(params);
        operation_on(tape, vec![x], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let (y, statistics) = norm.forward(&x);
            let backward = move |grad: Buffer| {
                let mut grad_x = Buffer::zeros(x.len());
                norm.backward_onto(&grad, &x, &statistics, &mut grad_x);
                vec![grad_x]
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Axis;
    use dfdx::tensor::Merge as _;
    use dfdx::tensor_ops::{BroadcastTo as _, TryAdd as _, TryMul as _};

    use super::NormParams;
    use crate::Tape;
    use crate::tensor::{Result, Tensor};

    pub fn layer_norm(x: Tensor, params: NormParams<'_>, tape: &Tape) -> Result<Tensor> {
        let NormParams { weight, bias, eps } = params;
        let (shape, channels) = (x.shape(), weight.numel());
        let rows = (shape.numel() / channels, channels);
        let tape = x.tape().merge(tape.clone());
        let weight = weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
        let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?;
        let x = x.typed(rows)?;
        Tensor::from_typed(x.try_normalize::<Axis<1>>(eps)?.try_mul(weight)?.try_add(bias)?)?.reshape(shape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::{NormParams, composed, layer_norm};
    use crate::Tape;
    use crate::tensor::{Error, Tensor};
    use crate::testing::{noise, noise_param, run};

    #[test]
    fn equals_the_composed_operation() {
        let x = noise(1, 60);
        let (weight, bias) = (noise_param(2, &[10]), noise_param(3, &[10]));
        let params = [&weight, &bias];
        let norm = NormParams { weight: &weight, bias: &bias, eps: 1e-5 };
        let own = run(&x, (2, 3, 10), &params, |x| layer_norm(x, norm, &Tape::none()));
        let expected = run(&x, (2, 3, 10), &params, |x| composed::layer_norm(x, norm, &Tape::none()));
        own.assert_close(&expected, 1e-5);
    }

    #[test]
    fn other_channels_are_an_error() {
        let x = Tensor::from_vec(noise(1, 60), (2, 3, 10), &Tape::none()).unwrap();
        let (weight, bias) = (noise_param(2, &[10]), noise_param(3, &[9]));
        let result = layer_norm(x, NormParams { weight: &weight, bias: &bias, eps: 1e-5 }, &Tape::none());
        assert!(matches!(result, Err(Error::Shape(_))));
    }
}
