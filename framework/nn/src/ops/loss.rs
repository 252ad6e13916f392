//! The reconstruction loss.

use super::operation::operation;
use crate::backend::{Buffer, loss};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::tensor::Tensor;

/// What patches are to become.
#[derive(Debug, Clone)]
pub enum PatchTarget {
    /// Values `[B, L, P]`.
    Values(Vec<f32>),
    /// The patches of images (`patchify` of the official `models_convmae.py`), which need not leave the device.
    Pixels {
        /// The images.
        images: Images,
        /// Pixels along each side of a patch.
        side: usize,
        /// Whether each patch is normalised by its own mean and deviation (`norm_pix_loss`).
        normalize: bool,
    },
}

impl From<Vec<f32>> for PatchTarget {
    fn from(values: Vec<f32>) -> Self {
        Self::Values(values)
    }
}

/// The mean squared error of the removed patches (`forward_loss` of the official `models_convmae.py`).
///
/// `pred` is `[B, L, P]`, as the target; `removed`, `[B, L]`, is 1 where a patch was removed and 0 where it was kept. Where images are the
/// target, there may be `M` predictions of each, `[B * M, L, P]`, which follow each other. The squared errors are averaged over each
/// patch, then over the removed patches of the whole batch.
///
/// # Errors
/// If the shapes do not fit, or no patch is removed.
pub fn masked_mse(pred: Tensor, target: impl Into<PatchTarget>, removed: &[f32]) -> Result<Tensor> {
    let (batch, patches, width) = pred.dims3()?;
    let target = target.into();
    let (images, values) = target.check(batch, width)?;
    let fits = batch.is_multiple_of(images) && values == patches * width;
    if !fits || removed.len() != batch * patches {
        return Err(Error::Shape(format!(
            "a prediction {:?} does not fit {} target values with {} mask values",
            pred.shape(),
            images * values,
            removed.len()
        )));
    }
    if removed.iter().all(|&weight| weight == 0.0) {
        return Err(Error::Value("no patch is removed, so there is nothing to reconstruct".into()));
    }
    let target = match target {
        PatchTarget::Values(values) => loss::values_target(values)?,
        PatchTarget::Pixels { images, side, normalize } => {
            loss::pixels_target(images.on_device()?, side, normalize)?
        }
    };
    operation(vec![pred], (), move |mut inputs, records| {
        let pred = inputs.swap_remove(0);
        let (value, compared) = loss::masked_mse(&pred, target, removed)?;
        let backward = move |grad: Buffer| Ok(vec![Some(loss::masked_mse_grad(&pred, &compared, &grad)?)]);
        Ok((value, records.then(|| Box::new(backward) as _)))
    })
}

impl PatchTarget {
    /// How many images there are, and how many values each has in patches of `width` values.
    fn check(&self, batch: usize, width: usize) -> Result<(usize, usize)> {
        let (images, side) = match self {
            Self::Values(values) if values.len().is_multiple_of(batch) => {
                return Ok((batch, values.len() / batch));
            }
            Self::Values(values) => return Ok((1, values.len())),
            Self::Pixels { images, side, .. } => (images, *side),
        };
        let (count, channels, rows, columns) = images.shape().dims4()?;
        let divides = side > 0 && rows.is_multiple_of(side) && columns.is_multiple_of(side);
        if !divides || side * side * channels != width {
            return Err(Error::Shape(format!(
                "images {:?} have no patches of {side} x {side} pixels with {width} values",
                images.shape()
            )));
        }
        Ok((count, channels * rows * columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::loss::normalize_patches;
    use crate::cpu::patches::patchify;
    use crate::testing::{check_gradient, loss_weights, noise, run};
    use crate::{Normalization, Pixels, Tape, oracle};

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
    fn patches_of_images_are_the_target_that_patchify_makes_of_them() {
        let normalization = Normalization { mean: noise(3, 3), std: vec![0.3; 3] };
        let bytes: Vec<u8> = (0..2 * 3 * 4 * 6).map(|at| (at * 37 % 256) as u8).collect();
        let bytes = Images::new(Pixels::Bytes(bytes.into(), normalization), (2, 3, 4, 6));
        let floats = Images::from_vec(bytes.values().into_owned(), (2, 3, 4, 6));
        let pred = noise(1, bytes.shape().numel());
        let removed: Vec<f32> = (0..12).map(|patch| (patch % 2) as f32).collect();
        for normalize in [false, true] {
            let mut values = patchify(&bytes.values(), 3, 4, 6, 2);
            if normalize {
                normalize_patches(&mut values, 12);
            }
            let loss = |target: PatchTarget| {
                run(&pred, (2, 6, 12), &[], |pred| masked_mse(pred, target.clone(), &removed))
            };
            let expected = loss(values.into());
            for images in [&bytes, &floats] {
                let images = images.clone();
                loss(PatchTarget::Pixels { images, side: 2, normalize }).assert_close(&expected, 1e-7);
            }
        }
    }

    #[test]
    fn each_prediction_of_an_image_is_compared_with_that_image() {
        let images = Images::from_vec(noise(2, 2 * 3 * 4 * 6), (2, 3, 4, 6));
        let pred = noise(1, 3 * images.shape().numel());
        let removed: Vec<f32> = (0..36).map(|patch| (patch % 5 % 2) as f32).collect();
        for normalize in [false, true] {
            let mut patches = patchify(&images.values(), 3, 4, 6, 2);
            if normalize {
                normalize_patches(&mut patches, 12);
            }
            let values: Vec<f32> = patches.chunks_exact(72).flat_map(|image| image.repeat(3)).collect();
            let pixels = PatchTarget::Pixels { images: images.clone(), side: 2, normalize };
            let [own, expected] = [pixels, values.into()]
                .map(|target| run(&pred, (6, 6, 12), &[], |pred| masked_mse(pred, target.clone(), &removed)));
            own.assert_close(&expected, 1e-7);
        }
        let pred = Tensor::from_vec(noise(1, 3 * 72), (3, 6, 12), &Tape::none()).unwrap();
        let target = PatchTarget::Pixels { images, side: 2, normalize: false };
        assert!(matches!(masked_mse(pred, target, &[1.0; 18]), Err(Error::Shape(_))));
    }

    #[test]
    fn images_without_such_patches_are_refused() {
        let images = Images::from_vec(vec![0.0; 3 * 4 * 6], (1, 3, 4, 6));
        let fits = |side, width| {
            let pred = Tensor::from_vec(vec![0.0; 72], (1, 72 / width, width), &Tape::none()).unwrap();
            let target = PatchTarget::Pixels { images: images.clone(), side, normalize: false };
            masked_mse(pred, target, &vec![1.0; 72 / width]).is_ok()
        };
        assert_eq!([(2, 12), (1, 3)].map(|(side, width)| fits(side, width)), [true; 2]);
        assert_eq!([(0, 12), (3, 12), (4, 12), (2, 24)].map(|(side, width)| fits(side, width)), [false; 4]);
    }

    #[test]
    fn without_a_removed_patch_there_is_no_loss() {
        let pred = Tensor::from_vec(noise(1, 6), (1, 2, 3), &Tape::none()).unwrap();
        assert!(matches!(masked_mse(pred.clone(), noise(2, 6), &[0.0; 2]), Err(Error::Value(_))));
        assert!(matches!(masked_mse(pred.clone(), noise(2, 5), &[1.0; 2]), Err(Error::Shape(_))));
        assert!(matches!(masked_mse(pred, noise(2, 6), &[1.0; 3]), Err(Error::Shape(_))));
    }
}
