//! Losses of single values: whether there is something, where its sides are.

use super::operation::operation;
use crate::backend::Buffer;
use crate::backend::pointwise_loss::{self as kernel, PointwiseLoss};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub use crate::backend::pointwise_loss::ValueTarget;

/// The binary cross entropy of the logits that have a target (a probability), summed up and divided by `normalizer`; a scalar.
///
/// ```
/// use convmae_nn::ops::{ValueTarget, binary_cross_entropy_with_logits};
/// use convmae_nn::{Tape, Tensor};
///
/// let logits = Tensor::from_vec(vec![0.0, 7.0, 0.0], (3,), &Tape::none())?;
/// let targets = [ValueTarget { index: 0, target: 1.0 }, ValueTarget { index: 2, target: 0.0 }];
/// let loss = binary_cross_entropy_with_logits(logits, &targets, 2.0)?;
/// assert_eq!(loss.to_vec()?, [2.0_f32.ln()]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
///
/// # Errors
/// If the indices of the targets do not ascend, or are not those of values; or if the normalizer is not positive.
pub fn binary_cross_entropy_with_logits(
    logits: Tensor,
    targets: &[ValueTarget],
    normalizer: f32,
) -> Result<Tensor> {
    pointwise(PointwiseLoss::BinaryCrossEntropy, logits, targets, normalizer)
}

/// The distances of the values that have a target from it, summed up and divided by `normalizer`; a scalar. Below `beta` the
/// distance `d` counts as `d^2 / (2 beta)`, beyond as `d - beta / 2` (Girshick 2015, fvcore's `smooth_l1_loss`); with a `beta` of
/// 0 it is the L1 loss.
///
/// # Errors
/// If the indices of the targets do not ascend, or are not those of values; or if the normalizer is not positive, or `beta` is
/// negative.
pub fn smooth_l1(x: Tensor, targets: &[ValueTarget], beta: f32, normalizer: f32) -> Result<Tensor> {
    if !(0.0..f32::INFINITY).contains(&beta) {
        return Err(Error::Value(format!("smooth_l1: beta is {beta}; it is 0 or more")));
    }
    pointwise(PointwiseLoss::SmoothL1 { beta }, x, targets, normalizer)
}

fn pointwise(loss: PointwiseLoss, x: Tensor, targets: &[ValueTarget], normalizer: f32) -> Result<Tensor> {
    let ascends = targets.is_sorted_by(|a, b| a.index < b.index);
    if !ascends || targets.last().is_some_and(|last| last.index >= x.numel()) {
        return Err(Error::Value(format!(
            "the indices of {} targets do not ascend within {} values",
            targets.len(),
            x.numel()
        )));
    }
    if normalizer.is_nan() || normalizer <= 0.0 {
        return Err(Error::Value(format!("a loss is divided by {normalizer}; it is to be more than 0")));
    }
    let targets = targets.to_vec();
    operation(vec![x], (), move |mut inputs, records| {
        let x = inputs.swap_remove(0);
        let value = kernel::forward(loss, &x, &targets, normalizer)?;
        let backward =
            move |grad: Buffer| Ok(vec![Some(kernel::backward(loss, &x, &targets, normalizer, &grad)?)]);
        Ok((value, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::testing::{assert_close, check_gradient, loss_weights, noise, run};

    /// Every other value has a target.
    fn targets(values: &[f32]) -> Vec<ValueTarget> {
        let targets = values.iter().enumerate().step_by(2);
        targets.map(|(index, &value)| ValueTarget { index, target: value.abs() }).collect()
    }

    type Loss = fn(Tensor, &[ValueTarget]) -> Result<Tensor>;

    /// Of a value and its target.
    type Definition = fn(f64, f64) -> f64;

    const LOSSES: [(Loss, Definition); 3] = [
        (
            |x, targets| binary_cross_entropy_with_logits(x, targets, 7.0),
            |x, target| {
                let p = 1.0 / (1.0 + (-x).exp());
                -target * p.ln() - (1.0 - target) * (1.0 - p).ln()
            },
        ),
        (|x, targets| smooth_l1(x, targets, 0.0, 7.0), |x, target| (x - target).abs()),
        (
            |x, targets| smooth_l1(x, targets, 0.5, 7.0),
            |x, target| match (x - target).abs() {
                distance if distance < 0.5 => distance * distance,
                distance => distance - 0.25,
            },
        ),
    ];

    #[test]
    fn values_and_gradients_are_those_of_the_definitions() {
        let (x, targets) = (noise(1, 91).iter().map(|x| 3.0 * x).collect::<Vec<_>>(), targets(&noise(2, 91)));
        for (loss, definition) in LOSSES {
            let own = run(&x, (7, 13), &[], |x| loss(x, &targets));
            let expected = |x: &[f64]| {
                let losses = targets.iter().map(|of| definition(x[of.index], of.target.into()));
                losses.sum::<f64>() / 7.0
            };
            assert_close(&own.values, &[expected(&crate::testing::wide(&x))], 1e-6);
            check_gradient(&x, &own.grads[0], |x| expected(x) * f64::from(loss_weights(1)[0]));
            assert!(own.grads[0].iter().skip(1).step_by(2).all(|&grad| grad == 0.0));
        }
    }

    #[test]
    fn without_targets_there_is_nothing_to_learn() {
        for (loss, _) in LOSSES {
            let own = run(&noise(1, 6), (2, 3), &[], |x| loss(x, &[]));
            assert_eq!((own.values, &own.grads[0][..]), (vec![0.0], &[0.0; 6][..]));
        }
    }

    #[test]
    fn a_value_at_its_target_stays_and_large_logits_do_not_overflow() {
        let targets = [0.5, 1.0, 0.0].into_iter().enumerate();
        let targets: Vec<_> = targets.map(|(index, target)| ValueTarget { index, target }).collect();
        let own = run(&[0.5, 1.0, 0.0], (3,), &[], |x| smooth_l1(x, &targets, 0.0, 1.0));
        assert_eq!((own.values, &own.grads[0][..]), (vec![0.0], &[0.0; 3][..]));
        let own = run(&[0.0, -1e4, 1e4], (3,), &[], |x| binary_cross_entropy_with_logits(x, &targets, 2.0));
        assert_close(&own.values, &[1e4 + 2.0_f64.ln() / 2.0], 1e-6);
        let half = f64::from(loss_weights(1)[0]) / 2.0;
        assert_close(&own.grads[0], &[0.0, -half, half], 1e-6);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || Tensor::from_vec(noise(1, 6), (2, 3), &Tape::none()).unwrap();
        let at = |indices: [usize; 2]| indices.map(|index| ValueTarget { index, target: 0.5 });
        assert!(smooth_l1(x(), &at([0, 5]), 0.0, 1.0).is_ok());
        for indices in [[0, 6], [2, 2], [3, 1]] {
            assert!(matches!(smooth_l1(x(), &at(indices), 0.0, 1.0), Err(Error::Value(_))));
        }
        assert!(matches!(smooth_l1(x(), &[], -1.0, 1.0), Err(Error::Value(_))));
        assert!(matches!(smooth_l1(x(), &[], 0.0, 0.0), Err(Error::Value(_))));
    }
}
