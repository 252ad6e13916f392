//! The reconstruction loss of masked autoencoders.

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified, upload_slice};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values, chunks};
use crate::Result;

static KERNELS: Source = source!("loss");

/// The squared errors of each patch, averaged over its `width` values, weighted by `removed`, over the sum of these weights.
///
/// `pred` and `target` are `[patches, width]`, `removed` is `[patches]`.
pub fn masked_mse(pred: &Values, target: &[f32], removed: &[f32], width: usize) -> Result<Buffer> {
    assert_eq!([pred.len(), target.len()], [removed.len() * width; 2]);
    let (patches, total) = (removed.len(), total(removed));
    let (target, removed) = (upload_slice(target)?, upload_slice(removed)?);
    let errors: CudaSlice<f64> = scratch(patches)?;
    let arguments = arguments![errors, *pred, target, removed, patches, width];
    KERNELS.launch("patch_errors", Grid::rows(patches), arguments)?;
    chunks::mean(&errors, patches, total)
}

/// The gradient of [`masked_mse`] with respect to `pred`, times `grad`, `[1]`.
pub fn masked_mse_grad(
    pred: &Values,
    target: &[f32],
    removed: &[f32],
    width: usize,
    grad: &Values,
) -> Result<Buffer> {
    assert_eq!([pred.len(), target.len()], [removed.len() * width; 2]);
    assert_eq!(grad.len(), 1);
    let divisor = width as f64 * total(removed);
    let (target, removed) = (upload_slice(target)?, upload_slice(removed)?);
    let output = unspecified(pred.len())?;
    let arguments = arguments![output, *pred, target, removed, *grad, divisor, width, pred.len()];
    KERNELS.launch("masked_mse_grad", Grid::elements(pred.len()), arguments)?;
    Ok(output)
}

fn total(removed: &[f32]) -> f64 {
    removed.iter().map(|&weight| f64::from(weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::loss as cpu;
    use crate::testing::noise;

    #[test]
    fn losses_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-7, "rounded once, from sums in double precision");
        for (patches, width) in [(1, 1), (7, 12), (300, 48), (3, 768)] {
            let (mut pred, target) = (noise(1, patches * width), noise(2, patches * width));
            let removed: Vec<f32> = (0..patches).map(|patch| [1.0, 0.0, 0.5][patch % 3]).collect();
            if patches > 1 {
                pred[width] = f32::NAN; // Of a patch that is kept.
            }
            let card_pred = on_card(&pred);
            let loss = masked_mse(&card_pred, &target, &removed, width).unwrap();
            case.same(&loss, &cpu::masked_mse(&pred, &target, &removed, width).unwrap());
            let grad = masked_mse_grad(&card_pred, &target, &removed, width, &on_card(&[0.7])).unwrap();
            case.same(&grad, &cpu::masked_mse_grad(&pred, &target, &removed, width, &[0.7]).unwrap());
        }
    }
}
