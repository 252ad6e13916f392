//! How near the reconstructed pixels are, beside the simplest guess.

use convmae_framework::component::{Evaluator, Measured, Meter, MeterError, Needs, Prediction, TaskKind};
use convmae_framework::data::Batch;
use convmae_framework::metrics::state;
use convmae_framework::nn::cpu::patches::patchify;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mean squared error of reconstructed pixels in removed patches (`pixel_mse`), and that of filling them with
/// the mean colour of the visible patches (`pixel_mse_mean_colour`); both in normalised units.
///
/// A decoder with `norm_pix_loss` borrows every patch's own mean and deviation for its picture, so there the
/// first figure flatters.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelError {}

#[typetag::serde]
impl Evaluator for PixelError {
    fn needs(&self) -> Needs {
        Needs::Predictions(TaskKind::Reconstruct)
    }

    fn meter(&self, _: &[String]) -> Box<dyn Meter> {
        Box::new(PixelMeter::default())
    }

    fn best(&self) -> (&'static str, bool) {
        ("pixel_mse", false)
    }
}

convmae_framework::register!(Evaluator: PixelError);

/// Sums of squared errors over removed patches.
#[derive(Default, Serialize, Deserialize)]
struct PixelMeter {
    reconstruction: f64,
    mean_colour: f64,
    values: usize,
}

impl Meter for PixelMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Predictions(predictions) = measured else { return Err(MeterError::NotNeeded) };
        for prediction in predictions {
            let Prediction::Reconstruction(found) = prediction else { return Err(MeterError::NotNeeded) };
            let channels = batch.channels();
            let size = found.patch * found.patch * channels;
            let patches = |images: &[f32]| patchify(images, channels, batch.height, batch.width, found.patch);
            let (target, reconstructed) = (patches(&batch.images.values()), patches(&found.images));
            let image = channels * batch.height * batch.width;
            let (tokens, masks) = (image / size, found.images.len() / target.len());
            let images = target
                .chunks_exact(image)
                .flat_map(|target| std::iter::repeat_n(target, masks))
                .zip(reconstructed.chunks_exact(image))
                .zip(found.removed.chunks_exact(tokens));
            for ((target, reconstructed), removed) in images {
                self.image(target, reconstructed, removed, (size, channels));
            }
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        state::write(self)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        let other: Self = state::read(state)?;
        self.reconstruction += other.reconstruction;
        self.mean_colour += other.mean_colour;
        self.values += other.values;
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        if self.values == 0 {
            return Vec::new();
        }
        let mean = |sum: f64| sum / self.values as f64;
        vec![
            ("pixel_mse".to_owned(), mean(self.reconstruction)),
            ("pixel_mse_mean_colour".to_owned(), mean(self.mean_colour)),
        ]
    }
}

impl PixelMeter {
    /// Takes in one image under one mask: patches of `size` values (pixels of `channels`), and which are removed.
    fn image(
        &mut self,
        target: &[f32],
        reconstructed: &[f32],
        removed: &[f32],
        (size, channels): (usize, usize),
    ) {
        let mut colour = vec![0.0; channels];
        let visible = target.chunks_exact(size).zip(removed).filter(|(_, removed)| **removed < 0.5);
        let mut pixels = 0usize;
        for pixel in visible.flat_map(|(patch, _)| patch.chunks_exact(channels)) {
            pixels += 1;
            colour.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        colour.iter_mut().for_each(|sum| *sum /= pixels.max(1) as f64);
        let patches = target.chunks_exact(size).zip(reconstructed.chunks_exact(size)).zip(removed);
        for ((target, reconstructed), _) in patches.filter(|(_, removed)| **removed >= 0.5) {
            let squared = |guess: f64, value: f32| (guess - f64::from(value)).powi(2);
            self.values += size;
            self.reconstruction +=
                reconstructed.iter().zip(target).map(|(g, t)| squared(f64::from(*g), *t)).sum::<f64>();
            self.mean_colour +=
                target.iter().enumerate().map(|(at, t)| squared(colour[at % channels], *t)).sum::<f64>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_errors_are_over_removed_patches_only() {
        let mut meter = PixelMeter::default();
        // Two patches of one pixel: the first is visible, the second removed.
        meter.image(&[1.0, 2.0, 3.0, 1.0, 2.0, 5.0], &[9.0, 9.0, 9.0, 1.0, 2.0, 4.0], &[0.0, 1.0], (3, 3));
        let metrics = meter.finish();
        assert!((metrics[0].1 - 1.0 / 3.0).abs() < 1e-12, "{metrics:?}");
        assert!((metrics[1].1 - 4.0 / 3.0).abs() < 1e-12, "{metrics:?}");
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        // Whole numbers, whose sums are exact.
        let image = |meter: &mut PixelMeter, first: f32| {
            let target: Vec<f32> = (0..6).map(|at| first + at as f32).collect();
            meter.image(&target, &[1.0, 2.0, 3.0, 5.0, 7.0, 9.0], &[1.0, 0.0], (3, 3));
        };
        let (mut merged, mut half, mut whole) =
            (PixelMeter::default(), PixelMeter::default(), PixelMeter::default());
        image(&mut merged, 2.0);
        image(&mut half, 11.0);
        [2.0, 11.0].into_iter().for_each(|first| image(&mut whole, first));
        merged.merge(&half.state()).unwrap();
        assert_eq!(merged.finish(), whole.finish());
        assert!(matches!(merged.merge(b"?"), Err(MeterError::State(_))));
    }
}
