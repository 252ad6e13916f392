//! Cross entropy of rows of logits, in double precision: of a confident row, single precision would leave nothing of the loss.

use std::rc::Rc;

use rayon::prelude::*;

use super::simd::multiversion;
use super::{Buffer, reduce};
use crate::Result;

/// Rows that one thread takes at least.
const ROWS: usize = 16;

/// What a row of logits is to tell: a class, or a mixture of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassTarget {
    /// Index of the class.
    pub class: u32,
    /// Index of the class that is mixed in.
    pub other: u32,
    /// Share of the other class; that of the class is the rest to 1.
    pub share: f32,
}

impl ClassTarget {
    /// A single class.
    pub fn of(class: u32) -> Self {
        Self { class, other: class, share: 0.0 }
    }

    /// The classes and their shares of the target, without those that have none.
    pub fn shares(self) -> impl Iterator<Item = (usize, f64)> {
        let share = f64::from(self.share);
        let shares = [(self.class as usize, 1.0 - share), (self.other as usize, share)];
        shares.into_iter().filter(|&(_, share)| share != 0.0)
    }

    /// Whether two classes have a share.
    fn is_mixed(self) -> bool {
        self.share != 0.0 && self.other != self.class
    }

    /// The share of one class: of both, if they are the same.
    fn share_of(self, class: usize) -> f64 {
        self.shares().filter(|&(other, _)| other == class).map(|(_, share)| share).sum()
    }

    /// The probabilities that it asks of `classes` classes, where `smoothing` is spread evenly over all:
    /// `(1 - smoothing) * mixture + smoothing / classes`.
    pub fn probabilities(self, classes: usize, smoothing: f32) -> Vec<f32> {
        let smoothing = f64::from(smoothing);
        let mut probabilities = vec![smoothing / classes as f64; classes];
        for (class, share) in self.shares() {
            probabilities[class] += (1.0 - smoothing) * share;
        }
        probabilities.into_iter().map(|probability| probability as f32).collect()
    }
}

/// How rows are compared with their targets, and how their losses become one.
#[derive(Debug, Clone, Default)]
pub struct Criterion {
    /// Share of a target that is spread evenly over all classes.
    pub smoothing: f32,
    /// The factor of each class, `[K]`; 1 for all without it.
    pub class_weight: Option<Rc<[f32]>>,
    /// How the losses of the rows become one.
    pub reduction: Reduction,
}

/// What the sum of the losses of all rows is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// The sum of the weights of the rows' classes; where classes are mixed, the number of rows with a target. So does PyTorch's
    /// `CrossEntropyLoss` with the indices of classes, and with their probabilities.
    #[default]
    Mean,
    /// The number of all rows, those without a target too, whatever the weights: mmsegmentation's `CrossEntropyLoss`
    /// (`avg_non_ignore=False`).
    AllRows,
}

impl Criterion {
    /// PyTorch's, with label smoothing.
    pub fn smoothed(smoothing: f32) -> Self {
        Self { smoothing, ..Self::default() }
    }

    /// What the sum of the losses is divided by; 1 where there is nothing to divide.
    pub fn divisor(&self, targets: &[Option<ClassTarget>]) -> f64 {
        let labelled = || targets.iter().flatten();
        let divisor = match (self.reduction, &self.class_weight) {
            (Reduction::AllRows, _) => targets.len() as f64,
            (Reduction::Mean, Some(weights)) if !labelled().any(|target| target.is_mixed()) => {
                labelled().map(|target| f64::from(weights[target.class as usize])).sum()
            }
            (Reduction::Mean, _) => labelled().count() as f64,
        };
        if divisor > 0.0 { divisor } else { 1.0 }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { smoothing: f64::from(self.smoothing), weights: self.class_weight.as_deref() }
    }
}

/// The logarithm of the sum of `exp(logit)`, for every row of `[rows, classes]`: the negative log-probability of a class is this less
/// its logit.
pub fn log_sums(logits: &[f32], classes: usize) -> Vec<f64> {
    assert!(logits.len().is_multiple_of(classes));
    logits.par_chunks(classes).with_min_len(ROWS).map(log_sum).collect()
}

multiversion! {
    fn log_sum(logits: &[f32]) -> f64 {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        // Of nothing but minus infinities, or with an infinity, there is nothing to subtract.
        let shift = if max.is_finite() { max } else { 0.0 };
        shift + logits.iter().map(|&logit| (f64::from(logit) - shift).exp()).sum::<f64>().ln()
    }
}

/// The logarithms of the normalisers of each row, for the backward.
#[derive(Debug)]
pub struct LogSums(Vec<f64>);

/// The cross entropy of each row of `logits`, `[rows, classes]`, reduced to one value; 0 if no row has a target.
///
/// The target is [`ClassTarget::probabilities`], each times the weight of its class.
pub fn forward(
    logits: &[f32],
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
) -> Result<(Buffer, LogSums)> {
    let classes = logits.len() / targets.len().max(1);
    let log_sums = log_sums(logits, classes.max(1));
    let rows = criterion.rows();
    let losses: Vec<f64> = (logits.par_chunks(classes.max(1)), &log_sums, targets)
        .into_par_iter()
        .with_min_len(ROWS)
        .map(|(logits, &log_sum, target)| target.map_or(0.0, |target| rows.loss(logits, log_sum, target)))
        .collect();
    let value = (losses.iter().sum::<f64>() / criterion.divisor(targets)) as f32;
    Ok((vec![value].into(), LogSums(log_sums)))
}

/// The gradient of [`forward`] with respect to the logits, times `grad`.
pub fn backward(
    logits: &[f32],
    log_sums: &LogSums,
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
    grad: &[f32],
) -> Result<Buffer> {
    let classes = logits.len() / targets.len().max(1);
    let scale = f64::from(grad[0]) / criterion.divisor(targets);
    let rows = criterion.rows();
    let mut output = Buffer::unspecified(logits.len());
    (output.par_chunks_mut(classes.max(1)), logits.par_chunks(classes.max(1)), &log_sums.0, targets)
        .into_par_iter()
        .with_min_len(ROWS)
        .for_each(|(output, logits, &log_sum, target)| match target {
            Some(target) => rows.gradient(output, logits, log_sum, *target, scale),
            None => output.fill(0.0),
        });
    Ok(output)
}

/// A [`Criterion`] for single rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    smoothing: f64,
    weights: Option<&'a [f32]>,
}

impl Rows<'_> {
    fn weight(self, class: usize) -> f64 {
        self.weights.map_or(1.0, |weights| f64::from(weights[class]))
    }

    fn loss(self, logits: &[f32], log_sum: f64, target: ClassTarget) -> f64 {
        let negative =
            |(class, share): (usize, f64)| self.weight(class) * share * (log_sum - f64::from(logits[class]));
        let mixture: f64 = target.shares().map(negative).sum();
        if self.smoothing == 0.0 {
            return mixture;
        }
        let classes = logits.len() as f64;
        let uniform = if self.weights.is_some() {
            (0..logits.len()).map(|class| negative((class, 1.0))).sum::<f64>() / classes
        } else {
            log_sum - reduce::sum_f64(logits) / classes
        };
        (1.0 - self.smoothing) * mixture + self.smoothing * uniform
    }

    /// Of each logit its probability, times what all classes together are asked for, less what its own is.
    fn gradient(self, output: &mut [f32], logits: &[f32], log_sum: f64, target: ClassTarget, scale: f64) {
        let uniform = self.smoothing / logits.len() as f64;
        let all = match self.weights {
            None => {
                scaled_probabilities(output, logits, log_sum, uniform, scale);
                1.0
            }
            Some(weights) => {
                let mixture: f64 = target.shares().map(|(class, share)| self.weight(class) * share).sum();
                let all = (1.0 - self.smoothing) * mixture + uniform * reduce::sum_f64(weights);
                weighted_probabilities(output, logits, weights, log_sum, all, uniform, scale);
                all
            }
        };
        for (class, _) in target.shares() {
            // Anew, for a small difference to keep its digits.
            let asked = self.weight(class) * ((1.0 - self.smoothing) * target.share_of(class) + uniform);
            output[class] = (((f64::from(logits[class]) - log_sum).exp() * all - asked) * scale) as f32;
        }
    }
}

multiversion! {
    fn scaled_probabilities(output: &mut [f32], logits: &[f32], log_sum: f64, less: f64, scale: f64) {
        for (output, &logit) in output.iter_mut().zip(logits) {
            *output = (((f64::from(logit) - log_sum).exp() - less) * scale) as f32;
        }
    }
}

multiversion! {
    fn weighted_probabilities(
        output: &mut [f32],
        logits: &[f32],
        weights: &[f32],
        log_sum: f64,
        all: f64,
        less: f64,
        scale: f64,
    ) {
        for ((output, &logit), &weight) in output.iter_mut().zip(logits).zip(weights) {
            let asked = f64::from(weight) * less;
            *output = (((f64::from(logit) - log_sum).exp() * all - asked) * scale) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::testing::{assert_close, noise, on_threads};

    const CLASSES: usize = 5;

    fn loss(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) -> f32 {
        forward(logits, targets, &Criterion::smoothed(smoothing)).unwrap().0[0]
    }

    fn gradient(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) -> Buffer {
        let log_sums = LogSums(log_sums(logits, CLASSES));
        backward(logits, &log_sums, targets, &Criterion::smoothed(smoothing), &[1.0]).unwrap()
    }

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_number_of_classes() {
        for smoothing in [0.0, 0.1, 1.0] {
            let loss = loss(&[3.0; CLASSES], &[Some(ClassTarget::of(2))], smoothing);
            assert!((loss - 5.0_f32.ln()).abs() < 1e-6, "{loss}");
        }
    }

    #[test]
    fn rows_without_a_target_count_for_nothing() {
        let mut logits = noise(1, 2 * CLASSES);
        let alone = loss(&logits[..CLASSES], &[Some(ClassTarget::of(1))], 0.1);
        logits[CLASSES..].fill(f32::NAN);
        let targets = [Some(ClassTarget::of(1)), None];
        assert_eq!(loss(&logits, &targets, 0.1), alone);
        assert_eq!(gradient(&logits, &targets, 0.1)[CLASSES..], [0.0; CLASSES]);
        assert_eq!(loss(&logits, &[None, None], 0.1), 0.0);
        assert_eq!(gradient(&logits, &[None, None], 0.1)[..], [0.0; 2 * CLASSES]);
    }

    #[test]
    fn the_gradient_is_what_the_probabilities_are_off_the_target() {
        let logits = noise(1, CLASSES);
        let target = ClassTarget { class: 3, other: 0, share: 0.25 };
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let asked = target.probabilities(CLASSES, 0.1);
        let off = |(&logit, &asked): (&f32, &f32)| f64::from(logit).exp() / total - f64::from(asked);
        let expected: Vec<f64> = logits.iter().zip(&asked).map(off).collect();
        assert_close(&gradient(&logits, &[Some(target)], 0.1), &expected, 1e-7);
        assert!((asked.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn class_weights_are_those_of_pytorch() {
        let logits = noise(1, 3 * CLASSES);
        let weights = [0.5, 2.0, 0.0, 1.5, 4.0];
        let negative = |row: usize, class: usize| {
            let logits = &logits[row * CLASSES..(row + 1) * CLASSES];
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            total.ln() - f64::from(logits[class])
        };
        let weighted = |row: usize, class: usize| f64::from(weights[class]) * negative(row, class);
        let criterion =
            |smoothing, reduction| Criterion { smoothing, class_weight: Some(weights.into()), reduction };
        let loss = |targets: &[Option<ClassTarget>], criterion: Criterion| {
            f64::from(forward(&logits, targets, &criterion).unwrap().0[0])
        };
        let near =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        // Of indices the mean is weighted, and smoothing is weighted class by class.
        let hard = [Some(ClassTarget::of(4)), None, Some(ClassTarget::of(1))];
        let mixture = weighted(0, 4) + weighted(2, 1);
        near(loss(&hard, criterion(0.0, Reduction::Mean)), mixture / 6.0);
        let uniform: f64 = (0..CLASSES).map(|class| weighted(0, class) + weighted(2, class)).sum();
        near(loss(&hard, criterion(0.1, Reduction::Mean)), (0.9 * mixture + 0.1 / 5.0 * uniform) / 6.0);
        // Of probabilities it is over the rows.
        let soft = [Some(ClassTarget { class: 4, other: 0, share: 0.25 }), None, hard[2]];
        let mixture = 0.75 * weighted(0, 4) + 0.25 * weighted(0, 0) + weighted(2, 1);
        near(loss(&soft, criterion(0.0, Reduction::Mean)), mixture / 2.0);
        // Of mmsegmentation over all rows.
        let mixture = weighted(0, 4) + weighted(2, 1);
        near(loss(&hard, criterion(0.0, Reduction::AllRows)), mixture / 3.0);
        // Where all that is there counts for nothing.
        near(loss(&[Some(ClassTarget::of(2)), None, None], criterion(0.0, Reduction::Mean)), 0.0);
    }

    #[test]
    fn equal_class_weights_change_nothing() {
        let logits = noise(1, 2 * CLASSES);
        let targets = [Some(ClassTarget::of(1)), Some(ClassTarget { class: 0, other: 4, share: 0.4 })];
        for smoothing in [0.0, 0.1] {
            let plain = Criterion::smoothed(smoothing);
            let ones = Criterion { class_weight: Some([1.0; CLASSES].into()), ..plain.clone() };
            let outcome = |criterion: &Criterion| {
                let (loss, log_sums) = forward(&logits, &targets, criterion).unwrap();
                (loss[0], backward(&logits, &log_sums, &targets, criterion, &[1.0]).unwrap())
            };
            let ((loss, grad), (plain_loss, plain_grad)) = (outcome(&ones), outcome(&plain));
            assert!((loss - plain_loss).abs() < 1e-6);
            assert!(grad.iter().zip(plain_grad.iter()).all(|(grad, plain)| (grad - plain).abs() < 1e-7));
        }
    }

    #[test]
    fn a_class_mixed_with_itself_is_that_class() {
        let logits = noise(1, CLASSES);
        let same = ClassTarget { class: 3, other: 3, share: 0.4 };
        let difference = loss(&logits, &[Some(same)], 0.1) - loss(&logits, &[Some(ClassTarget::of(3))], 0.1);
        assert!(difference.abs() < 1e-6);
        let (mixed, plain) =
            (gradient(&logits, &[Some(same)], 0.1), gradient(&logits, &[Some(ClassTarget::of(3))], 0.1));
        assert!(mixed.iter().zip(plain.iter()).all(|(mixed, plain)| (mixed - plain).abs() < 1e-7));
    }

    #[test]
    fn large_logits_do_not_overflow_and_confidence_does_not_vanish() {
        let logits = [10.0, -15.0, -100.0, -100.0, -100.0];
        let expected = (-25.0_f64).exp() as f32;
        assert!((loss(&logits, &[Some(ClassTarget::of(0))], 0.0) / expected - 1.0).abs() < 1e-3);
        assert!((gradient(&logits, &[Some(ClassTarget::of(0))], 0.0)[0] / -expected - 1.0).abs() < 1e-3);
        let logits = [1e4, 0.0, -1e4, -1e4, f32::NEG_INFINITY];
        assert_eq!(loss(&logits, &[Some(ClassTarget::of(2))], 0.0), 2e4);
        assert_eq!(gradient(&logits, &[Some(ClassTarget::of(2))], 0.0)[..], [1.0, 0.0, -1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let logits = noise(1, 1000 * CLASSES);
        let targets: Vec<_> = (0..1000).map(|row| (row % 7 != 0).then(|| ClassTarget::of(row % 5))).collect();
        let outcome = |threads| {
            on_threads(threads, || (loss(&logits, &targets, 0.1), gradient(&logits, &targets, 0.1).to_vec()))
        };
        assert_eq!(outcome(1), outcome(3));
    }
}
