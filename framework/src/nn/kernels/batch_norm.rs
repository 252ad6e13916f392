//! Batch normalisation of rows `[N, C]`.

use rayon::prelude::*;

use super::chunks::sum_chunks;
use super::reduce::add;

/// Mean and biased variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The means, `[C]`.
    pub mean: Vec<f32>,
    /// The variances (divided by `N`), `[C]`.
    pub var: Vec<f32>,
}

impl Moments {
    /// The moments of the columns of `[N, channels]`, summed in f64.
    pub fn of(x: &[f32], channels: usize) -> Self {
        let rows = x.len() / channels;
        assert_eq!(x.len(), rows * channels);
        let sums = |term: &(dyn Fn(usize, f64) -> f64 + Sync)| {
            let sums = sum_chunks(rows, channels, |range, sum: &mut [f64]| {
                for row in x[range.start * channels..range.end * channels].chunks_exact(channels) {
                    for (channel, (sum, &value)) in sum.iter_mut().zip(row).enumerate() {
                        *sum += term(channel, f64::from(value));
                    }
                }
            });
            sums.into_iter().map(|sum| sum / rows as f64).collect::<Vec<f64>>()
        };
        let mean = sums(&|_, value| value);
        let var = sums(&|channel, value| (value - mean[channel]).powi(2));
        let round = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Self { var: round(var), mean: round(mean) }
    }

    /// `1 / sqrt(var + eps)`, `[C]`.
    pub fn inverse_std(&self, eps: f32) -> Vec<f32> {
        self.var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect()
    }
}

/// `x = (x - mean) * scale + shift`, each `[C]`.
pub fn normalize(x: &mut [f32], mean: &[f32], scale: &[f32], shift: &[f32]) {
    x.par_chunks_mut(mean.len()).for_each(|row| {
        for (((x, mean), scale), shift) in row.iter_mut().zip(mean).zip(scale).zip(shift) {
            *x = (*x - mean) * scale + shift;
        }
    });
}

/// The gradients of shift and scale: the column sums of `grad`, and of `grad * (x - mean) * inverse_std`.
pub fn grad_affine(x: &[f32], grad: &[f32], mean: &[f32], inverse_std: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let channels = mean.len();
    assert_eq!(grad.len(), x.len());
    let mut shift = sum_chunks(x.len() / channels, 2 * channels, |rows, sum: &mut [f32]| {
        let (shift, scale) = sum.split_at_mut(channels);
        let range = rows.start * channels..rows.end * channels;
        for (x, grad) in x[range.clone()].chunks_exact(channels).zip(grad[range].chunks_exact(channels)) {
            add(shift, grad);
            for (((sum, x), grad), mean) in scale.iter_mut().zip(x).zip(grad).zip(mean) {
                *sum += (x - mean) * grad;
            }
        }
    });
    let mut scale = shift.split_off(channels);
    scale.iter_mut().zip(inverse_std).for_each(|(scale, inverse_std)| *scale *= inverse_std);
    (shift, scale)
}

/// Replaces the gradient of the output by that of the input; the affine weight is `weight`.
///
/// `means` are the gradients of [`grad_affine`] over `N` where the moments are those of the batch, and `None` where they are given.
pub fn grad_input(
    x: &[f32],
    grad: &mut [f32],
    mean: &[f32],
    inverse_std: &[f32],
    weight: &[f32],
    means: Option<(&[f32], &[f32])>,
) {
    let channels = mean.len();
    assert_eq!(grad.len(), x.len());
    grad.par_chunks_mut(channels).zip(x.par_chunks(channels)).for_each(|(grad, x)| {
        for channel in 0..channels {
            let mut value = grad[channel];
            if let Some((shift, scale)) = means {
                value -=
                    shift[channel] + (x[channel] - mean[channel]) * inverse_std[channel] * scale[channel];
            }
            grad[channel] = value * inverse_std[channel] * weight[channel];
        }
    });
}
