//! The loss of classifiers.

use super::operation::operation;
pub use crate::backend::cross_entropy::{ClassTarget, Criterion, Reduction};
use crate::backend::{Buffer, cross_entropy as kernel};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The cross entropy of `logits`, `[.., K]`, with a target for each row, reduced to one value as the criterion says; 0 if no row has a
/// target.
///
/// The target is `(1 - smoothing) * mixture + smoothing / K` ([`ClassTarget::probabilities`]), each class times its weight. This is
/// PyTorch's cross entropy with `weight` and `label_smoothing`, timm's `LabelSmoothingCrossEntropy`, and its `SoftTargetCrossEntropy` of
/// mixed labels with smoothing.
///
/// # Errors
/// If there are not as many targets as rows, or as many weights as classes, or a target is not among the `K` classes.
pub fn cross_entropy(
    logits: Tensor,
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
) -> Result<Tensor> {
    let classes = logits.dims().last().copied().unwrap_or_default();
    if classes == 0 || logits.numel() != targets.len() * classes {
        return Err(Error::Shape(format!(
            "logits {:?} do not fit {} targets",
            logits.shape(),
            targets.len()
        )));
    }
    if let Some(weights) = criterion.class_weight.as_ref().filter(|weights| weights.len() != classes) {
        return Err(Error::Shape(format!("{} class weights for {classes} classes", weights.len())));
    }
    for (row, target) in targets.iter().enumerate() {
        let named = target.iter().flat_map(|target| [target.class, target.other]);
        if let Some(class) = named.into_iter().find(|&class| class as usize >= classes) {
            return Err(Error::Value(format!("row {row} is of class {class}; there are {classes} classes")));
        }
    }
    let (targets, criterion) = (targets.to_vec(), criterion.clone());
    operation(vec![logits], (), move |mut inputs, records| {
        let logits = inputs.swap_remove(0);
        let (value, log_sums) = kernel::forward(&logits, &targets, &criterion)?;
        let backward = move |grad: Buffer| {
            Ok(vec![Some(kernel::backward(&logits, &log_sums, &targets, &criterion, &grad)?)])
        };
        Ok((value, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        assert_golden, check_gradient, golden, golden_shape, loss_weights, noise, run, run_against,
        segmentation_golden,
    };
    use crate::{Tape, oracle};

    const CLASSES: usize = 7;

    fn targets() -> [Option<ClassTarget>; 4] {
        let mixed = ClassTarget { class: 1, other: 4, share: 0.3 };
        [Some(ClassTarget::of(6)), None, Some(mixed), Some(ClassTarget { other: 1, ..mixed })]
    }

    fn logits() -> Vec<f32> {
        noise(1, 4 * CLASSES).iter().map(|logit| 3.0 * logit).collect()
    }

    fn weighted(smoothing: f32, reduction: Reduction) -> Criterion {
        let weights = noise(2, CLASSES).iter().map(|weight| 1.5 + weight).collect::<Vec<_>>();
        Criterion { smoothing, class_weight: Some(weights.into()), reduction }
    }

    #[test]
    fn agrees_with_the_composition() {
        for criterion in [
            Criterion::default(),
            Criterion::smoothed(0.1),
            weighted(0.0, Reduction::Mean),
            weighted(0.1, Reduction::AllRows),
        ] {
            for targets in [targets(), [None, Some(ClassTarget::of(6)), None, Some(ClassTarget::of(2))]] {
                let own =
                    run(&logits(), (4, CLASSES), &[], |logits| cross_entropy(logits, &targets, &criterion));
                let other = run(&logits(), (4, CLASSES), &[], |logits| {
                    oracle::cross_entropy(logits, &targets, &criterion)
                });
                own.assert_close(&other, 1e-6);
            }
        }
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        for (criterion, divisor) in [
            (Criterion::smoothed(0.1), 3.0),
            (weighted(0.1, Reduction::Mean), 3.0),
            (weighted(0.0, Reduction::AllRows), 4.0),
        ] {
            let own =
                run(&logits(), (4, CLASSES), &[], |logits| cross_entropy(logits, &targets(), &criterion));
            let weight = |class: usize| {
                criterion.class_weight.as_ref().map_or(1.0, |weights| f64::from(weights[class]))
            };
            check_gradient(&logits(), &own.grads[0], |logits| {
                let rows = logits.chunks_exact(CLASSES).zip(targets());
                let losses = rows.filter_map(|(logits, target)| {
                    let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                    let asked = target?.probabilities(CLASSES, criterion.smoothing);
                    let negative =
                        |(class, x): (usize, &f64)| weight(class) * f64::from(asked[class]) * (total - x);
                    Some(logits.iter().enumerate().map(negative).sum::<f64>())
                });
                losses.sum::<f64>() / divisor * f64::from(loss_weights(1)[0])
            });
        }
    }

    #[test]
    fn over_all_rows_it_is_the_official_loss_of_segmentation() {
        let tensors = segmentation_golden();
        let (logits, shape) = (golden(&tensors, "ce.logits"), golden_shape(&tensors, "ce.logits"));
        let labels: Vec<i64> = bytemuck::pod_collect_to_vec(tensors.tensor("ce.label").unwrap().data());
        let targets: Vec<_> =
            labels.iter().map(|&label| (label != 255).then(|| ClassTarget::of(label as u32))).collect();
        let none = vec![None; targets.len()];
        for (case, targets, weight) in
            [("w1.0", &targets, 1.0), ("w0.4", &targets, 0.4), ("all_ignored", &none, 1.0)]
        {
            let criterion = Criterion { reduction: Reduction::AllRows, ..Criterion::default() };
            let own = run_against(
                &logits,
                shape,
                &[],
                |_| vec![weight],
                |logits| cross_entropy(logits, targets, &criterion),
            );
            let expected = |part: &str| golden(&tensors, &format!("ce.{case}.{part}"));
            assert_golden(case, &[own.values[0] * weight], &expected("loss"), 2e-6);
            assert_golden(case, &own.grads[0], &expected("grad"), 2e-5);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let logits = || Tensor::from_vec(noise(1, 6), (2, 3), &Tape::none()).unwrap();
        let class = |class| Some(ClassTarget::of(class));
        let plain = Criterion::default();
        assert!(matches!(cross_entropy(logits(), &[class(0)], &plain), Err(Error::Shape(_))));
        assert!(matches!(cross_entropy(logits(), &[class(0), class(3)], &plain), Err(Error::Value(_))));
        let mixed = Some(ClassTarget { class: 0, other: 3, share: 0.5 });
        assert!(matches!(cross_entropy(logits(), &[mixed, None], &plain), Err(Error::Value(_))));
        assert!(cross_entropy(logits(), &[class(2), None], &plain).is_ok());
        let short = Criterion { class_weight: Some([1.0; 2].into()), ..plain };
        assert!(matches!(cross_entropy(logits(), &[class(2), None], &short), Err(Error::Shape(_))));
    }
}
