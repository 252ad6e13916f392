//! The reconstruction loss.

use super::operation::operation;
use crate::backend::{Buffer, loss};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The mean squared error of the removed patches (`forward_loss` of the official `models_convmae.py`).
///
/// `pred` and `target` are `[B, L, P]`; `removed`, `[B, L]`, is 1 where a patch was removed and 0 where it was kept. The squared
/// errors are averaged over each patch, then over the removed patches of the whole batch.
///
/// # Errors
/// If the shapes do not fit, or no patch is removed.
pub fn masked_mse(pred: Tensor, target: Vec<f32>, removed: &[f32]) -> Result<Tensor> {
    let (batch, patches, width) = pred.dims3()?;
    if (target.len(), removed.len()) != (batch * patches * width, batch * patches) {
        return Err(Error::Shape(format!(
            "a prediction {:?} does not fit {} target values with {} mask values",
            pred.shape(),
            target.len(),
            removed.len()
        )));
    }
    if removed.iter().all(|&weight| weight == 0.0) {
        return Err(Error::Value("no patch is removed, so there is nothing to reconstruct".into()));
    }
    let removed = removed.to_vec();
    operation(vec![pred], (), move |mut inputs, records| {
        let pred = inputs.swap_remove(0);
        let value = loss::masked_mse(&pred, &target, &removed, width)?;
        let backward = move |grad: Buffer| {
            Ok(vec![Some(loss::masked_mse_grad(&pred, &target, &removed, width, &grad)?)])
        };
        Ok((value, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, loss_weights, noise, run};
    use crate::{Tape, oracle};

    const REMOVED: [f32; 6] = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];

    #[test]
    fn agrees_with_the_composition() {
        let (pred, target) = (noise(1, 42), noise(2, 42));
        let own = run(&pred, (2, 3, 7), &[], |pred| masked_mse(pred, target.clone(), &REMOVED));
        let other = run(&pred, (2, 3, 7), &[], |pred| oracle::masked_mse(pred, target.clone(), &REMOVED));
        own.assert_close(&other, 1e-6);
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        let (pred, target) = (noise(1, 42), noise(2, 42));
        let own = run(&pred, (2, 3, 7), &[], |pred| masked_mse(pred, target.clone(), &REMOVED));
        check_gradient(&pred, &own.grads[0], |pred| {
            let square = |i: usize| (pred[i] - f64::from(target[i])).powi(2) * f64::from(REMOVED[i / 7]);
            (0..42).map(square).sum::<f64>() / 21.0 * f64::from(loss_weights(1)[0])
        });
    }

    #[test]
    fn without_a_removed_patch_there_is_no_loss() {
        let pred = Tensor::from_vec(noise(1, 6), (1, 2, 3), &Tape::none()).unwrap();
        assert!(matches!(masked_mse(pred.clone(), noise(2, 6), &[0.0; 2]), Err(Error::Value(_))));
        assert!(matches!(masked_mse(pred.clone(), noise(2, 5), &[1.0; 2]), Err(Error::Shape(_))));
        assert!(matches!(masked_mse(pred, noise(2, 6), &[1.0; 3]), Err(Error::Shape(_))));
    }
}
