//! Cross entropy of rows of logits, in double precision: of a confident row, single precision would leave nothing of the loss.

use cudarc::driver::{CudaSlice, DeviceRepr};

use super::buffer::{scratch, unspecified, upload_plain};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values, chunks, zeros};
use crate::Result;

pub use crate::cpu::cross_entropy::ClassTarget;

static KERNELS: Source = source!("cross_entropy");

/// The logarithms of the normalisers of each row, for the backward.
#[derive(Debug)]
pub struct LogSums(CudaSlice<f64>);

/// The cross entropy of each row of `logits`, `[rows, classes]`, averaged over the rows with a target; 0 if there is none.
///
/// The target is [`ClassTarget::probabilities`].
pub fn forward(
    logits: &Values,
    targets: &[Option<ClassTarget>],
    smoothing: f32,
) -> Result<(Buffer, LogSums)> {
    let (rows, classes) = (targets.len(), classes(logits, targets));
    let [log_sums, losses]: [CudaSlice<f64>; 2] = [scratch(rows)?, scratch(rows)?];
    if logits.is_empty() {
        return Ok((zeros(1)?, LogSums(log_sums)));
    }
    let on_card = upload_targets(targets)?;
    let arguments = arguments![log_sums, losses, *logits, on_card, f64::from(smoothing), rows, classes];
    KERNELS.launch("forward", Grid::rows(rows), arguments)?;
    Ok((chunks::mean(&losses, rows, count(targets))?, LogSums(log_sums)))
}

/// The gradient of [`forward`] with respect to the logits, times `grad`, `[1]`.
pub fn backward(
    logits: &Values,
    log_sums: &LogSums,
    targets: &[Option<ClassTarget>],
    smoothing: f32,
    grad: &Values,
) -> Result<Buffer> {
    let classes = classes(logits, targets);
    assert_eq!(grad.len(), 1);
    let (output, on_card) = (unspecified(logits.len())?, upload_targets(targets)?);
    let (smoothing, divisor) = (f64::from(smoothing), count(targets));
    let arguments =
        arguments![output, *logits, log_sums.0, on_card, *grad, smoothing, divisor, classes, logits.len()];
    KERNELS.launch("backward", Grid::elements(logits.len()), arguments)?;
    Ok(output)
}

/// How many classes there are, after a check that the targets are among them.
fn classes(logits: &Values, targets: &[Option<ClassTarget>]) -> usize {
    let classes = logits.len() / targets.len().max(1);
    assert_eq!(logits.len(), classes * targets.len());
    let is_valid = |target: ClassTarget| target.shares().all(|(class, _)| class < classes);
    assert!(targets.iter().flatten().copied().all(is_valid));
    classes
}

/// How many rows have a target; at least 1, as a divisor.
fn count(targets: &[Option<ClassTarget>]) -> f64 {
    targets.iter().flatten().count().max(1) as f64
}

/// `Target` in `kernels/cross_entropy.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Target {
    class: u32,
    other: u32,
    share: f32,
}

// SAFETY: plain numbers in the order of the kernels' structure.
unsafe impl DeviceRepr for Target {}

impl Target {
    const NONE: Self = Self { class: u32::MAX, other: u32::MAX, share: 0.0 };
}

fn upload_targets(targets: &[Option<ClassTarget>]) -> Result<CudaSlice<Target>> {
    let plain = |target: &Option<ClassTarget>| {
        target.map_or(Target::NONE, |ClassTarget { class, other, share }| Target { class, other, share })
    };
    upload_plain(&targets.iter().map(plain).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::cross_entropy as cpu;
    use crate::testing::noise;

    fn compare(logits: &[f32], targets: &[Option<ClassTarget>], smoothing: f32) {
        let case = Case::relative(1e-6, "another exponential function");
        let (loss, log_sums) = cpu::forward(logits, targets, smoothing).unwrap();
        let card_logits = on_card(logits);
        let (card_loss, card_log_sums) = forward(&card_logits, targets, smoothing).unwrap();
        case.same(&card_loss, &loss);
        let grad = cpu::backward(logits, &log_sums, targets, smoothing, &[0.7]).unwrap();
        let card_grad = backward(&card_logits, &card_log_sums, targets, smoothing, &on_card(&[0.7])).unwrap();
        case.same(&card_grad, &grad);
    }

    #[test]
    fn losses_and_gradients_are_those_of_the_cpu() {
        for (rows, classes) in [(0, 3), (1, 2), (7, 5), (1000, 33), (3, 1000)] {
            let logits: Vec<f32> = noise(1, rows * classes).iter().map(|logit| 5.0 * logit).collect();
            let target = |row: usize| {
                let (class, other) = (row * 7 % classes, row * 3 % classes);
                let share = [0.0, 0.25, 1.0][row % 3];
                (row % 4 != 3).then_some(ClassTarget { class: class as u32, other: other as u32, share })
            };
            let targets: Vec<_> = (0..rows).map(target).collect();
            for smoothing in [0.0, 0.1] {
                compare(&logits, &targets, smoothing);
                compare(&logits, &vec![None; rows], smoothing);
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_confidence_does_not_vanish() {
        compare(&[1e4, 0.0, -1e4, -1e4, f32::NEG_INFINITY], &[Some(ClassTarget::of(2))], 0.0);
        let loss = forward(&on_card(&[10.0, -15.0, -100.0]), &[Some(ClassTarget::of(0))], 0.0).unwrap().0;
        let (loss, expected) = (super::super::download(&loss).unwrap()[0], (-25.0_f64).exp() as f32);
        assert!((loss / expected - 1.0).abs() < 1e-3, "{loss}");
    }
}
