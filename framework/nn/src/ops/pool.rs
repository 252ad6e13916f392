//! Tokens to one token of an image.

use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The mean over the tokens of each image (global average pooling): `[B, N, C]` to `[B, 1, C]`.
///
/// # Errors
/// If there is no token.
pub fn mean_tokens(x: Tensor) -> Result<Tensor> {
    let (_, tokens, channels) = x.dims3()?;
    if tokens * channels == 0 {
        return Err(Error::Shape(format!("there is no mean over {:?}", x.shape())));
    }
    implementation::mean_tokens(x)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::{Buffer, pool};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn mean_tokens(x: Tensor) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        operation(vec![x], (batch, 1, channels), move |inputs, record| {
            let output = pool::mean_tokens(&inputs[0], tokens, channels);
            let backward = move |grad: Buffer| vec![pool::mean_tokens_grad(&grad, tokens, channels)];
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Axis;
    use dfdx::tensor_ops::MeanTo as _;

    use crate::ops::rows::T2;
    use crate::tensor::{Result, Tensor};

    pub fn mean_tokens(x: Tensor) -> Result<Tensor> {
        let (batch, tokens, channels) = x.dims3()?;
        let mean: T2 = x.typed((batch, tokens, channels))?.try_mean::<_, Axis<1>>()?;
        Tensor::from_typed(mean)?.reshape((batch, 1, channels))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Tape;
    use crate::tensor::Tensor;
    use crate::testing::{check_gradient, loss_weights, noise, run};

    #[test]
    fn agrees_with_the_composition() {
        let x = noise(1, 2 * 5 * 3);
        let own = run(&x, (2, 5, 3), &[], mean_tokens);
        own.assert_close(&run(&x, (2, 5, 3), &[], composed::mean_tokens), 1e-6);
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        let x = noise(1, 2 * 5 * 3);
        let own = run(&x, (2, 5, 3), &[], mean_tokens);
        check_gradient(&x, &own.grads[0], |x| {
            let part = |at: usize| x[at] / 5.0 * f64::from(loss_weights(6)[at / 15 * 3 + at % 3]);
            (0..x.len()).map(part).sum()
        });
    }

    #[test]
    fn of_no_token_there_is_no_mean() {
        let none = Tensor::from_vec(Vec::new(), (2, 0, 3), &Tape::none()).unwrap();
        assert!(matches!(mean_tokens(none), Err(Error::Shape(_))));
    }
}
