//! Tokens to one token of an image.

use super::operation::operation;
use crate::backend::{Buffer, pool};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The mean over the tokens of each image (global average pooling): `[B, N, C]` to `[B, 1, C]`.
///
/// # Errors
/// If there is no token.
pub fn mean_tokens(x: Tensor) -> Result<Tensor> {
    let (batch, tokens, channels) = x.dims3()?;
    if tokens * channels == 0 {
        return Err(Error::Shape(format!("there is no mean over {:?}", x.shape())));
    }
    operation(vec![x], (batch, 1, channels), move |inputs, records| {
        let output = pool::mean_tokens(&inputs[0], tokens, channels)?;
        let backward = move |grad: Buffer| Ok(vec![Some(pool::mean_tokens_grad(&grad, tokens, channels)?)]);
        Ok((output, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, loss_weights, noise, run};
    use crate::{Tape, oracle};

    #[test]
    fn agrees_with_the_composition() {
        let x = noise(1, 2 * 5 * 3);
        let own = run(&x, (2, 5, 3), &[], mean_tokens);
        own.assert_close(&run(&x, (2, 5, 3), &[], oracle::mean_tokens), 1e-6);
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
