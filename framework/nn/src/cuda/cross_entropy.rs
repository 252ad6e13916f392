//! Cross entropy of rows of logits, in double precision: of a confident row, single precision would leave nothing of the loss.

use cudarc::driver::{CudaSlice, DeviceRepr};

use super::buffer::{scratch, unspecified, upload_plain};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values, chunks, zeros};
use crate::Result;

pub use crate::cpu::cross_entropy::{ClassTarget, Criterion, Reduction};

static KERNELS: Source = source!("cross_entropy");

/// The logarithms of the normalisers of each row, for the backward.
#[derive(Debug)]
pub struct LogSums(CudaSlice<f64>);

/// The cross entropy of each row of `logits`, `[rows, classes]`, reduced to one value; 0 if no row has a target.
///
/// The target is [`ClassTarget::probabilities`], each times the weight of its class.
pub fn forward(
    logits: &Values,
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
) -> Result<(Buffer, LogSums)> {
    let (rows, classes) = (targets.len(), classes(logits, targets));
    let [log_sums, losses]: [CudaSlice<f64>; 2] = [scratch(rows)?, scratch(rows)?];
    if logits.is_empty() {
        return Ok((zeros(1)?, LogSums(log_sums)));
    }
    let on_card = upload_targets(targets)?;
    let Weights { each, sum } = Weights::upload(criterion, classes)?;
    let smoothing = f64::from(criterion.smoothing);
    let arguments = arguments![log_sums, losses, *logits, on_card, each, sum, smoothing, rows, classes];
    KERNELS.launch("forward", Grid::rows(rows), arguments)?;
    Ok((chunks::mean(&losses, rows, criterion.divisor(targets))?, LogSums(log_sums)))
}

/// The gradient of [`forward`] with respect to the logits, times `grad`, `[1]`.
pub fn backward(
    logits: &Values,
    log_sums: &LogSums,
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
    grad: &Values,
) -> Result<Buffer> {
    let classes = classes(logits, targets);
    assert_eq!(grad.len(), 1);
    let (output, on_card) = (unspecified(logits.len())?, upload_targets(targets)?);
    let Weights { each, sum } = Weights::upload(criterion, classes)?;
    let (smoothing, divisor, count) =
        (f64::from(criterion.smoothing), criterion.divisor(targets), logits.len());
    let arguments = arguments![
        output, *logits, log_sums.0, on_card, *grad, each, sum, smoothing, divisor, classes, count
    ];
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

/// The weights of the classes, and their sum.
struct Weights {
    each: CudaSlice<f32>,
    sum: f64,
}

impl Weights {
    fn upload(criterion: &Criterion, classes: usize) -> Result<Self> {
        let weights = criterion.class_weight.as_ref().map_or_else(|| vec![1.0; classes], |own| own.to_vec());
        // Without rows there is nothing to tell them by.
        assert!(classes == 0 || weights.len() == classes);
        Ok(Self { sum: weights.iter().copied().map(f64::from).sum(), each: upload_plain(&weights)? })
    }
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

    fn compare(logits: &[f32], targets: &[Option<ClassTarget>], criterion: &Criterion) {
        let case = Case::relative(1e-6, "another exponential function");
        let (loss, log_sums) = cpu::forward(logits, targets, criterion).unwrap();
        let card_logits = on_card(logits);
        let (card_loss, card_log_sums) = forward(&card_logits, targets, criterion).unwrap();
        case.same(&card_loss, &loss);
        let grad = cpu::backward(logits, &log_sums, targets, criterion, &[0.7]).unwrap();
        let card_grad = backward(&card_logits, &card_log_sums, targets, criterion, &on_card(&[0.7])).unwrap();
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
            let weights: Vec<f32> = noise(2, classes).iter().map(|weight| weight.abs()).collect();
            let class_weight = Some(weights.into());
            for criterion in [
                Criterion::default(),
                Criterion::smoothed(0.1),
                Criterion { class_weight: class_weight.clone(), ..Criterion::default() },
                Criterion { smoothing: 0.1, class_weight, reduction: Reduction::AllRows },
            ] {
                compare(&logits, &targets, &criterion);
                compare(&logits, &vec![None; rows], &criterion);
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow_and_confidence_does_not_vanish() {
        compare(
            &[1e4, 0.0, -1e4, -1e4, f32::NEG_INFINITY],
            &[Some(ClassTarget::of(2))],
            &Criterion::default(),
        );
        let target = [Some(ClassTarget::of(0))];
        let loss = forward(&on_card(&[10.0, -15.0, -100.0]), &target, &Criterion::default()).unwrap().0;
        let (loss, expected) = (super::super::download(&loss).unwrap()[0], (-25.0_f64).exp() as f32);
        assert!((loss / expected - 1.0).abs() < 1e-3, "{loss}");
    }
}
