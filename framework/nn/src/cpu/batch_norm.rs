//! Batch normalisation of rows `[N, C]`.

use rayon::prelude::*;

use super::Buffer;
use super::chunks::sum_chunks;
use super::reduce::add;
use super::simd::multiversion;
use crate::Result;

/// Rows that one thread takes at a time.
const ROWS: usize = 16;

/// What a batch is normalised by: mean and biased variance of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`; divided by `N`.
    pub var: Vec<f32>,
}

impl Moments {
    /// `1 / sqrt(var + eps)`, `[C]`.
    fn inverse_std(&self, eps: f32) -> Vec<f32> {
        self.var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect()
    }
}

/// The moments of the columns of `[N, channels]`, summed in f64.
pub fn moments(x: &[f32], channels: usize) -> Result<Moments> {
    let rows = x.len() / channels;
    assert_eq!(x.len(), rows * channels);
    // Relative to the first row: the square of a large mean would swallow the variance.
    let origin = x.get(..channels).unwrap_or_default();
    let mut sum = sum_chunks(rows, 2 * channels, |range, sum: &mut [f64]| {
        let (sum, squares) = sum.split_at_mut(channels);
        add_moments(&x[range.start * channels..range.end * channels], origin, sum, squares);
    });
    let squares = sum.split_off(channels);
    let (mut mean, mut var) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for ((&origin, sum), squares) in origin.iter().zip(sum).zip(squares) {
        let offset = sum / rows as f64;
        mean.push((f64::from(origin) + offset) as f32);
        var.push((squares / rows as f64 - offset * offset).max(0.0) as f32);
    }
    Ok(Moments { mean, var })
}

/// The moments that were collected in training, `[C]` each.
pub fn running_moments(mean: &[f32], var: &[f32]) -> Result<Moments> {
    Ok(Moments { mean: mean.to_vec(), var: var.to_vec() })
}

/// Moves running moments by `momentum` towards those of a batch of `rows` rows; the running variance is unbiased.
pub fn update_running(
    mean: &mut [f32],
    var: &mut [f32],
    batch: &Moments,
    rows: usize,
    momentum: f32,
) -> Result<()> {
    let unbiased = rows as f32 / (rows as f32 - 1.0);
    for (running, batch, factor) in [(mean, &batch.mean, 1.0), (var, &batch.var, unbiased)] {
        for (running, batch) in running.iter_mut().zip(batch) {
            *running += momentum * (batch * factor - *running);
        }
    }
    Ok(())
}

multiversion! {
    /// Adds the sums of `x - origin`, and of its squares, over the rows of `x`.
    fn add_moments(x: &[f32], origin: &[f32], sum: &mut [f64], squares: &mut [f64]) {
        for row in x.chunks_exact(origin.len()) {
            for (((&x, &origin), sum), squares) in row.iter().zip(origin).zip(&mut *sum).zip(&mut *squares) {
                let offset = f64::from(x) - f64::from(origin);
                *sum += offset;
                *squares += offset * offset;
            }
        }
    }
}

/// `(x - mean) / sqrt(var + eps)` of rows `[N, C]`, times the first of `affine` plus the second, `[C]` each.
pub fn forward(x: &[f32], moments: &Moments, affine: Option<[&[f32]; 2]>, eps: f32) -> Result<Buffer> {
    let channels = moments.mean.len();
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let [weight, bias] = affine.unwrap_or([&ones, &zeros]);
    let scale: Vec<f32> = moments.inverse_std(eps).iter().zip(weight).map(|(a, b)| a * b).collect();
    let mut output = Buffer::copy(x);
    normalize(&mut output, &moments.mean, &scale, bias);
    Ok(output)
}

/// The gradients of weight and bias, `[C]` each, from that of the output.
pub fn grad_affine(x: &[f32], grad: &[f32], moments: &Moments, eps: f32) -> Result<[Buffer; 2]> {
    let channels = moments.mean.len();
    assert_eq!(grad.len(), x.len());
    let mut shift = sum_chunks(x.len() / channels, 2 * channels, |rows, sum: &mut [f32]| {
        let (shift, scale) = sum.split_at_mut(channels);
        let range = rows.start * channels..rows.end * channels;
        add_grad_affine(&x[range.clone()], &grad[range], &moments.mean, shift, scale);
    });
    let mut scale = shift.split_off(channels);
    scale.iter_mut().zip(moments.inverse_std(eps)).for_each(|(scale, inverse_std)| *scale *= inverse_std);
    Ok([scale.into(), shift.into()])
}

/// Replaces the gradient of the output by that of the input. `batch`: the gradients of weight and bias ([`grad_affine`]) of all rows that
/// the moments are of, and how many these are; `None` where the moments are given, and so have no gradient.
pub fn grad_input(
    x: &[f32],
    grad: &mut [f32],
    moments: &Moments,
    weight: Option<&[f32]>,
    eps: f32,
    batch: Option<([&[f32]; 2], usize)>,
) -> Result<()> {
    let Moments { mean, .. } = moments;
    let channels = mean.len();
    assert_eq!(grad.len(), x.len());
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let inverse_std = moments.inverse_std(eps);
    let gain: Vec<f32> = inverse_std
        .iter()
        .zip(weight.unwrap_or(&ones))
        .map(|(inverse_std, weight)| inverse_std * weight)
        .collect();
    let Some(([scale, shift], rows)) = batch else {
        normalize(grad, &zeros, &gain, &zeros);
        return Ok(());
    };
    let shift: Vec<f32> = shift.iter().map(|sum| sum / rows as f32).collect();
    let slope: Vec<f32> =
        inverse_std.iter().zip(scale).map(|(inverse_std, sum)| inverse_std * (sum / rows as f32)).collect();
    grad.par_chunks_mut(ROWS * channels).zip(x.par_chunks(ROWS * channels)).for_each(|(grad, x)| {
        grad_input_rows(grad, x, mean, &gain, &shift, &slope);
    });
    Ok(())
}

/// `x = (x - mean) * scale + shift`, each `[C]`.
fn normalize(x: &mut [f32], mean: &[f32], scale: &[f32], shift: &[f32]) {
    x.par_chunks_mut(ROWS * mean.len()).for_each(|x| normalize_rows(x, mean, scale, shift));
}

multiversion! {
    fn normalize_rows(x: &mut [f32], mean: &[f32], scale: &[f32], shift: &[f32]) {
        for row in x.chunks_exact_mut(mean.len()) {
            for (((x, mean), scale), shift) in row.iter_mut().zip(mean).zip(scale).zip(shift) {
                *x = (*x - mean) * scale + shift;
            }
        }
    }
}

multiversion! {
    /// Adds the sums of `grad`, and of `grad * (x - mean)`, over the rows.
    fn add_grad_affine(x: &[f32], grad: &[f32], mean: &[f32], shift: &mut [f32], scale: &mut [f32]) {
        for (x, grad) in x.chunks_exact(mean.len()).zip(grad.chunks_exact(mean.len())) {
            add(shift, grad);
            for (((sum, x), grad), mean) in scale.iter_mut().zip(x).zip(grad).zip(mean) {
                *sum += (x - mean) * grad;
            }
        }
    }
}

multiversion! {
    /// `grad = (grad - shift - (x - mean) * slope) * gain`, each `[C]`.
    fn grad_input_rows(
        grad: &mut [f32],
        x: &[f32],
        mean: &[f32],
        gain: &[f32],
        shift: &[f32],
        slope: &[f32],
    ) {
        for (grad, x) in grad.chunks_exact_mut(mean.len()).zip(x.chunks_exact(mean.len())) {
            let channels = mean.iter().zip(gain).zip(shift.iter().zip(slope));
            for ((grad, x), ((mean, gain), (shift, slope))) in grad.iter_mut().zip(x).zip(channels) {
                *grad = (*grad - shift - (x - mean) * slope) * gain;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_does_not_spoil_the_moments() {
        // Two channels: 1e6 + (0, 1, 2, 3), and a constant.
        let x: Vec<f32> = (0..4).flat_map(|i| [1e6 + i as f32, 0.1]).collect();
        assert_eq!(moments(&x, 2).unwrap(), Moments { mean: vec![1e6 + 1.5, 0.1], var: vec![1.25, 0.0] });
    }
}
