//! Cross entropy of rows of logits, in double precision: of a confident row, single precision would leave nothing of the loss.

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

/// The cross entropy of each row of `logits`, `[rows, classes]`, averaged over the rows with a target; 0 if there is none.
///
/// `log_sums` are those of the logits ([`log_sums`]). The target is [`ClassTarget::probabilities`].
pub fn forward(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) -> Result<(Buffer, LogSums)> {
    let classes = logits.len() / targets.len().max(1);
    let log_sums = log_sums(logits, classes.max(1));
    let losses: Vec<f64> = (logits.par_chunks(classes.max(1)), &log_sums, targets)
        .into_par_iter()
        .with_min_len(ROWS)
        .map(|(logits, &log_sum, target)| {
            target.map_or(0.0, |target| row(logits, log_sum, target, f64::from(smoothing)))
        })
        .collect();
    let value = (losses.iter().sum::<f64>() / count(targets)) as f32;
    Ok((vec![value].into(), LogSums(log_sums)))
}

fn row(logits: &[f32], log_sum: f64, target: ClassTarget, smoothing: f64) -> f64 {
    let negative = |(class, share): (usize, f64)| share * (log_sum - f64::from(logits[class]));
    let mixture: f64 = target.shares().map(negative).sum();
    if smoothing == 0.0 {
        return mixture;
    }
    let uniform = log_sum - reduce::sum_f64(logits) / logits.len() as f64;
    (1.0 - smoothing) * mixture + smoothing * uniform
}

/// The gradient of [`forward`] with respect to the logits, times `grad`.
pub fn backward(
    logits: &[f32],
    log_sums: &LogSums,
    targets: &[Option<ClassTarget>],
    smoothing: f32,
    grad: &[f32],
) -> Result<Buffer> {
    let classes = logits.len() / targets.len().max(1);
    let smoothing = f64::from(smoothing);
    let scale = f64::from(grad[0]) / count(targets);
    let mut output = Buffer::unspecified(logits.len());
    (output.par_chunks_mut(classes.max(1)), logits.par_chunks(classes.max(1)), &log_sums.0, targets)
        .into_par_iter()
        .with_min_len(ROWS)
        .for_each(|(output, logits, &log_sum, target)| {
            let Some(target) = target else { return output.fill(0.0) };
            scaled_probabilities(output, logits, log_sum, smoothing / classes as f64, scale);
            for (class, _) in target.shares() {
                // Anew, for a small difference to keep its digits.
                let asked = (1.0 - smoothing) * target.share_of(class) + smoothing / classes as f64;
                output[class] = (((f64::from(logits[class]) - log_sum).exp() - asked) * scale) as f32;
            }
        });
    Ok(output)
}

multiversion! {
    fn scaled_probabilities(output: &mut [f32], logits: &[f32], log_sum: f64, less: f64, scale: f64) {
        for (output, &logit) in output.iter_mut().zip(logits) {
            *output = (((f64::from(logit) - log_sum).exp() - less) * scale) as f32;
        }
    }
}

/// How many rows have a target; at least 1, as a divisor.
fn count(targets: &[Option<ClassTarget>]) -> f64 {
    targets.iter().flatten().count().max(1) as f64
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::testing::{assert_close, noise, on_threads};

    const CLASSES: usize = 5;

    fn loss(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) -> f32 {
        forward(logits, targets, smoothing).unwrap().0[0]
    }

    fn gradient(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) -> Buffer {
        backward(logits, &LogSums(log_sums(logits, CLASSES)), targets, smoothing, &[1.0]).unwrap()
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
