//! The reconstruction loss of masked autoencoders.

use rayon::prelude::*;

use super::images::Uploaded;
use super::patches::patchify;
use super::simd::multiversion;
use super::{Buffer, reduce};
use crate::Result;

/// Mean and deviation of a patch (`norm_pix_loss`): the root of the unbiased variance plus 1e-6.
///
/// The sums are in f64: in a patch of one colour, nothing but rounding would be left of the values.
pub fn patch_statistics(patch: &[f32]) -> (f64, f64) {
    let width = patch.len() as f64;
    let mean = reduce::sum_f64(patch) / width;
    (mean, (reduce::sum_of_squares_f64(patch, mean) / (width - 1.0) + 1e-6).sqrt())
}

/// Normalises every patch of `[.., width]` by its [`patch_statistics`].
pub fn normalize_patches(target: &mut [f32], width: usize) {
    assert!(target.len().is_multiple_of(width));
    target.par_chunks_mut(width).for_each(|patch| {
        let (mean, deviation) = patch_statistics(patch);
        normalize(patch, mean, deviation.recip());
    });
}

multiversion! {
    fn normalize(values: &mut [f32], mean: f64, scale: f64) {
        for value in values {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    }
}

/// What patches are to become, `[patches, width]`.
pub struct Target {
    values: Vec<f32>,
    /// Patches of an image, of which there may be several predictions; or 1.
    of_image: usize,
}

/// Values `[patches, width]`.
pub fn values_target(values: Vec<f32>) -> Result<Target> {
    Ok(Target { values, of_image: 1 })
}

/// The patches of `side x side` pixels of images, with the channel last; normalised by their [`patch_statistics`] if it is asked for.
pub fn pixels_target(images: &Uploaded, side: usize, normalize: bool) -> Result<Target> {
    let (_, channels, height, width) = images.shape.dims4()?;
    let mut patches = patchify(&images.values, channels, height, width, side);
    if normalize {
        normalize_patches(&mut patches, side * side * channels);
    }
    Ok(Target { values: patches, of_image: height / side * (width / side) })
}

/// What the backward needs besides the prediction.
pub struct Compared {
    target: Target,
    removed: Vec<f32>,
}

impl Compared {
    /// Compares predictions, `[patches, width]`, of which there may be several for each image.
    fn new(pred: &[f32], target: Target, removed: &[f32]) -> Self {
        assert!([removed.len(), target.values.len()].iter().all(|&of| pred.len().is_multiple_of(of)));
        Self { target, removed: removed.to_vec() }
    }

    /// What each patch of so many values of the prediction is to become, and its weight.
    fn patches(&self, width: usize) -> impl IndexedParallelIterator<Item = (&[f32], f32)> {
        let Self { target: Target { values, of_image }, removed } = self;
        let masks = removed.len() * width / values.len();
        removed.par_iter().enumerate().map(move |(at, &weight)| {
            let patch = at / of_image / masks * of_image + at % of_image;
            (&values[patch * width..][..width], weight)
        })
    }
}

/// The squared errors of each patch, averaged over its values, weighted by `removed`, over the sum of these weights.
///
/// `pred` and `target` are `[patches, width]`, `removed` is `[patches]`. Of each image there may be several predictions, which follow
/// each other.
pub fn masked_mse(pred: &[f32], target: Target, removed: &[f32]) -> Result<(Buffer, Compared)> {
    let width = pred.len() / removed.len();
    let compared = Compared::new(pred, target, removed);
    let errors: Vec<f64> = pred
        .par_chunks(width)
        .zip(compared.patches(width))
        .map(|(pred, (target, weight))| {
            if weight == 0.0 {
                return 0.0;
            }
            reduce::squared_distance(pred, target) / width as f64 * f64::from(weight)
        })
        .collect();
    let loss = vec![(errors.iter().sum::<f64>() / total(removed)) as f32].into();
    Ok((loss, compared))
}

/// The gradient of [`masked_mse`] with respect to `pred`, times `grad`, `[1]`.
pub fn masked_mse_grad(pred: &[f32], compared: &Compared, grad: &[f32]) -> Result<Buffer> {
    let width = pred.len() / compared.removed.len();
    let scale = 2.0 * f64::from(grad[0]) / (width as f64 * total(&compared.removed));
    let mut output = Buffer::unspecified(pred.len());
    (output.par_chunks_mut(width), pred.par_chunks(width), compared.patches(width)).into_par_iter().for_each(
        |(output, pred, (target, weight))| match weight {
            0.0 => output.fill(0.0),
            _ => scaled_difference(output, pred, target, (scale * f64::from(weight)) as f32),
        },
    );
    Ok(output)
}

multiversion! {
    fn scaled_difference(output: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
        for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
            *output = (a - b) * scale;
        }
    }
}

fn total(removed: &[f32]) -> f64 {
    removed.iter().map(|&weight| f64::from(weight)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_patches_have_unit_unbiased_variance() {
        let mut patch = vec![1.0, 2.0, 3.0, 4.0];
        normalize_patches(&mut patch, 4);
        let variance = patch.iter().map(|value| value * value).sum::<f32>() / 3.0;
        assert!(patch.iter().sum::<f32>().abs() < 1e-6 && (variance - 1.0).abs() < 1e-5, "{patch:?}");
    }

    #[test]
    fn a_patch_of_one_colour_normalises_to_zeros() {
        let mut patch = vec![0.1; 768];
        normalize_patches(&mut patch, 768);
        assert!(patch.iter().all(|value| value.abs() < 1e-6));
    }

    #[test]
    fn kept_patches_do_not_enter_the_loss() {
        let (pred, target) = ([1.0, 3.0, f32::NAN, 0.0, 2.0, 0.0], values_target(vec![0.0; 6]).unwrap());
        let (loss, compared) = masked_mse(&pred, target, &[1.0, 0.0, 1.0]).unwrap();
        assert!((loss[0] - 3.5).abs() < 1e-6);
        let grad = masked_mse_grad(&pred, &compared, &[1.0]).unwrap();
        assert_eq!(grad[..], [0.5, 1.5, 0.0, 0.0, 1.0, 0.0]);
    }
}
