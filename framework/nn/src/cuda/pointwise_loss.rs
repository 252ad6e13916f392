//! Losses of single values against targets, in double precision.

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, upload_plain, zeros};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values, chunks};
use crate::Result;

pub use crate::cpu::pointwise_loss::{PointwiseLoss, ValueTarget};

static KERNELS: Source = source!("pointwise_loss");

/// The sum of the losses of the values that have a target, over `normalizer`, `[1]`.
pub fn forward(loss: PointwiseLoss, x: &Values, targets: &[ValueTarget], normalizer: f32) -> Result<Buffer> {
    let losses: CudaSlice<f64> = scratch(targets.len())?;
    let (kind, beta) = number(loss);
    let (indices, values) = upload_targets(x, targets)?;
    let arguments = arguments![losses, *x, indices, values, kind, beta, targets.len()];
    KERNELS.launch("pointwise_loss", Grid::elements(targets.len()), arguments)?;
    chunks::mean(&losses, targets.len(), normalizer.into())
}

/// The gradient of [`forward`] with respect to `x`, times `grad`, `[1]`. The indices of the targets differ.
pub fn backward(
    loss: PointwiseLoss,
    x: &Values,
    targets: &[ValueTarget],
    normalizer: f32,
    grad: &Values,
) -> Result<Buffer> {
    assert_eq!(grad.len(), 1);
    let grad_x = zeros(x.len())?;
    let (kind, beta) = number(loss);
    let (indices, values) = upload_targets(x, targets)?;
    let normalizer = f64::from(normalizer);
    let arguments = arguments![grad_x, *x, indices, values, *grad, kind, beta, normalizer, targets.len()];
    KERNELS.launch("pointwise_loss_grad", Grid::elements(targets.len()), arguments)?;
    Ok(grad_x)
}

/// As the kernels tell losses apart.
fn number(loss: PointwiseLoss) -> (usize, f32) {
    match loss {
        PointwiseLoss::BinaryCrossEntropy => (0, 0.0),
        PointwiseLoss::SmoothL1 { beta } => (1, beta),
    }
}

fn upload_targets(x: &Values, targets: &[ValueTarget]) -> Result<(CudaSlice<u32>, CudaSlice<f32>)> {
    assert!(targets.iter().all(|target| target.index < x.len()));
    let indices: Vec<u32> = targets.iter().map(|target| target.index as u32).collect();
    let values: Vec<f32> = targets.iter().map(|target| target.target).collect();
    Ok((upload_plain(&indices)?, upload_plain(&values)?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::pointwise_loss as cpu;
    use crate::testing::noise;

    #[test]
    fn losses_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-7, "rounded once, from sums in double precision");
        for loss in [
            PointwiseLoss::BinaryCrossEntropy,
            PointwiseLoss::SmoothL1 { beta: 0.0 },
            PointwiseLoss::SmoothL1 { beta: 0.5 },
        ] {
            for (len, step) in [(5, 9), (7, 1), (10_000, 3)] {
                let (x, values) = (noise(1, len), noise(2, len));
                let targets = values.iter().enumerate().skip(1).step_by(step);
                let targets: Vec<_> = targets.map(|(index, &target)| ValueTarget { index, target }).collect();
                for targets in [&targets[..], &[]] {
                    let value = forward(loss, &on_card(&x), targets, 3.0).unwrap();
                    case.same(&value, &cpu::forward(loss, &x, targets, 3.0).unwrap());
                    let grad = backward(loss, &on_card(&x), targets, 3.0, &on_card(&[0.7])).unwrap();
                    case.same(&grad, &cpu::backward(loss, &x, targets, 3.0, &[0.7]).unwrap());
                }
            }
        }
    }
}
