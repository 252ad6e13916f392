//! The reconstruction loss of masked autoencoders.

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified, upload, upload_slice};
use super::images::{Uploaded, pixels};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values, chunks};
use crate::Result;

static KERNELS: Source = source!("loss");

/// What patches are to become, `[patches, width]`.
pub enum Target {
    /// Values that lie so.
    Values(Buffer),
    /// The patches of images, which are read where they lie.
    Pixels {
        /// The images.
        images: Uploaded,
        /// Pixels along each side of a patch.
        side: usize,
        /// Whether each is normalised by its own mean and deviation.
        normalize: bool,
    },
}

/// Values `[patches, width]`.
pub fn values_target(values: Vec<f32>) -> Result<Target> {
    upload(values).map(Target::Values)
}

/// The patches of `side x side` pixels of images, with the channel last; normalised by their
/// [`crate::cpu::loss::patch_statistics`] if it is asked for.
pub fn pixels_target(images: &Uploaded, side: usize, normalize: bool) -> Result<Target> {
    Ok(Target::Pixels { images: images.clone(), side, normalize })
}

/// What the backward needs besides the prediction.
pub struct Compared {
    target: Target,
    /// Mean and reciprocal deviation of each patch whose target is normalised.
    statistics: Option<CudaSlice<f64>>,
    removed: Buffer,
    /// The sum of the weights.
    total: f64,
}

/// The squared errors of each patch, averaged over its values, weighted by `removed`, over the sum of these weights.
///
/// `pred` and `target` are `[patches, width]`, `removed` is `[patches]`. Of each image there may be several predictions, which follow each other.
pub fn masked_mse(pred: &Values, target: Target, removed: &[f32]) -> Result<(Buffer, Compared)> {
    let (patches, width, total) = (removed.len(), pred.len() / removed.len(), total(removed));
    assert_eq!(pred.len(), patches * width);
    let masks = target.masks(pred);
    let normalizes = matches!(target, Target::Pixels { normalize: true, .. });
    let statistics = normalizes.then(|| scratch(2 * patches)).transpose()?;
    let compared = Compared { target, statistics, removed: upload_slice(removed)?, total };
    let errors: CudaSlice<f64> = scratch(patches)?;
    let (statistics, removed) = (&compared.statistics, &compared.removed);
    match &compared.target {
        Target::Values(target) => {
            let arguments = arguments![errors, *statistics, *pred, *target, *removed, patches, width];
            KERNELS.launch("patch_errors_rows", Grid::rows(patches), arguments)?;
        }
        Target::Pixels { images, side, .. } => {
            let [values, tables] = images.addresses()?;
            let (_, channels, height, columns) = images.shape.dims4()?;
            let arguments = arguments![
                errors,
                *statistics,
                *pred,
                values,
                tables,
                channels,
                height,
                columns,
                *side,
                masks,
                *removed,
                patches,
                width
            ];
            KERNELS.launch(images.kernel(pixels!("patch_errors")), Grid::rows(patches), arguments)?;
        }
    }
    Ok((chunks::mean(&errors, patches, total)?, compared))
}

/// The gradient of [`masked_mse`] with respect to `pred`, times `grad`, `[1]`.
pub fn masked_mse_grad(pred: &Values, compared: &Compared, grad: &Values) -> Result<Buffer> {
    let Compared { target, statistics, removed, total } = compared;
    assert_eq!(grad.len(), 1);
    let masks = target.masks(pred);
    let width = pred.len() / removed.len();
    let divisor = width as f64 * total;
    let output = unspecified(pred.len())?;
    let grid = Grid::elements(pred.len());
    match target {
        Target::Values(target) => {
            let arguments =
                arguments![output, *statistics, *pred, *target, *removed, *grad, divisor, width, pred.len()];
            KERNELS.launch("masked_mse_grad_rows", grid, arguments)?;
        }
        Target::Pixels { images, side, .. } => {
            let [values, tables] = images.addresses()?;
            let (_, channels, height, columns) = images.shape.dims4()?;
            let arguments = arguments![
                output,
                *statistics,
                *pred,
                values,
                tables,
                channels,
                height,
                columns,
                *side,
                masks,
                *removed,
                *grad,
                divisor,
                width,
                pred.len()
            ];
            KERNELS.launch(images.kernel(pixels!("masked_mse_grad")), grid, arguments)?;
        }
    }
    Ok(output)
}

impl Target {
    /// How often each image is predicted.
    fn masks(&self, pred: &Values) -> usize {
        let values = match self {
            Self::Values(values) => values.len(),
            Self::Pixels { images, .. } => images.shape.numel(),
        };
        let masks = pred.len() / values;
        assert_eq!(pred.len(), masks * values);
        masks
    }
}

fn total(removed: &[f32]) -> f64 {
    removed.iter().map(|&weight| f64::from(weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::images::tests::in_both_forms;
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
            let target = (values_target(target.clone()).unwrap(), cpu::values_target(target).unwrap());
            same_losses_and_gradients(case, &pred, target, &removed);
        }
    }

    #[test]
    fn patches_of_images_are_compared_where_they_lie() {
        let case = Case::relative(1e-7, "rounded once, from sums in double precision");
        for (channels, side, normalize) in [(3, 4, false), (3, 4, true), (1, 5, true), (2, 16, true)] {
            for (card, processor) in in_both_forms((2, channels, 2 * side, 3 * side)) {
                // Of each image two predictions.
                let pred = noise(1, 24 * side * side * channels);
                let removed: Vec<f32> = (0..24).map(|patch| [1.0, 0.0, 0.5][patch % 3]).collect();
                let card = pixels_target(&card, side, normalize).unwrap();
                let processor = cpu::pixels_target(&processor, side, normalize).unwrap();
                same_losses_and_gradients(case, &pred, (card, processor), &removed);
            }
        }
    }

    #[track_caller]
    fn same_losses_and_gradients(
        case: Case,
        pred: &[f32],
        (target, cpu_target): (Target, cpu::Target),
        removed: &[f32],
    ) {
        let on_card_pred = on_card(pred);
        let (loss, compared) = masked_mse(&on_card_pred, target, removed).unwrap();
        let (cpu_loss, cpu_compared) = cpu::masked_mse(pred, cpu_target, removed).unwrap();
        case.same(&loss, &cpu_loss);
        let grad = masked_mse_grad(&on_card_pred, &compared, &on_card(&[0.7])).unwrap();
        case.same(&grad, &cpu::masked_mse_grad(pred, &cpu_compared, &[0.7]).unwrap());
    }
}
