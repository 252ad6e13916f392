//! `LayerNorm` over the channels of each row, with the biased variance (Ba et al. 2016).

use rayon::prelude::*;

use super::simd::multiversion;
use super::{Buffer, reduce};
use crate::nn::profile;

/// Rows that one thread takes at a time.
const ROWS: usize = 64;

/// What the backward needs of a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    mean: f32,
    /// `1 / sqrt(variance + eps)`.
    scale: f32,
}

/// Rows `[R, C]` normalised, times `weight`, plus `bias`.
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> (Buffer, Vec<Statistics>) {
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && bias.len() == channels);
    let mut y = Buffer::unspecified(x.len());
    let mut statistics = vec![Statistics::default(); x.len() / channels];
    y.par_chunks_mut(ROWS * channels)
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks_mut(ROWS))
        .for_each(|((y, x), statistics)| {
            measure_rows(x, statistics, channels, eps);
            normalize_rows(y, x, statistics, weight, bias);
        });
    (y, statistics)
}

/// What [`forward`] yielded, from its statistics.
pub fn again(x: &[f32], statistics: &[Statistics], weight: &[f32], bias: &[f32]) -> Buffer {
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert!(x.len() == statistics.len() * channels && bias.len() == channels);
    let mut y = Buffer::unspecified(x.len());
    y.par_chunks_mut(ROWS * channels)
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks(ROWS))
        .for_each(|((y, x), statistics)| normalize_rows(y, x, statistics, weight, bias));
    y
}

multiversion! {
    fn measure_rows(x: &[f32], statistics: &mut [Statistics], channels: usize, eps: f32) {
        let count = channels as f32;
        for (x, statistics) in x.chunks_exact(channels).zip(statistics) {
            let mean = reduce::sum(x) / count;
            let scale = (reduce::sum_of_squares(x, mean) / count + eps).sqrt().recip();
            *statistics = Statistics { mean, scale };
        }
    }
}

multiversion! {
    fn normalize_rows(y: &mut [f32], x: &[f32], statistics: &[Statistics], weight: &[f32], bias: &[f32]) {
        let rows = y.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len()));
        for ((y, x), &Statistics { mean, scale }) in rows.zip(statistics) {
            for ((y, x), (weight, bias)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                *y = (x - mean) * scale * weight + bias;
            }
        }
    }
}

/// Adds the gradient of the rows to `grad_x`; returns those of the weight and of the bias. `grad` is overwritten.
pub fn backward_onto(
    grad: &mut [f32],
    x: &[f32],
    statistics: &[Statistics],
    weight: &[f32],
    grad_x: &mut [f32],
) -> [Vec<f32>; 2] {
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert_eq!([grad.len(), grad_x.len(), statistics.len() * channels], [x.len(); 3]);
    // `[chunks, 2, C]`: each chunk's gradient of the weight, then of the bias.
    let mut partial = Buffer::zeros(statistics.len().div_ceil(ROWS) * 2 * channels);
    grad_x
        .par_chunks_mut(ROWS * channels)
        .zip(grad.par_chunks_mut(ROWS * channels))
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks(ROWS))
        .zip(partial.par_chunks_mut(2 * channels))
        .for_each(|((((grad_x, grad), x), statistics), partial)| {
            backward_rows(grad_x, grad, x, statistics, weight, partial);
        });
    let mut grads = [vec![0.0; channels], vec![0.0; channels]];
    for partial in partial.chunks_exact(2 * channels) {
        for (grad, partial) in grads.iter_mut().zip(partial.chunks_exact(channels)) {
            reduce::add(grad, partial);
        }
    }
    grads
}

multiversion! {
    /// `partial` is `[2, C]`: the gradients of the weight and of the bias, which these rows are added to.
    fn backward_rows(
        grad_x: &mut [f32],
        grad: &mut [f32],
        x: &[f32],
        statistics: &[Statistics],
        weight: &[f32],
        partial: &mut [f32],
    ) {
        let channels = weight.len();
        let (grad_weight, grad_bias) = partial.split_at_mut(channels);
        let rows = grad_x.chunks_exact_mut(channels).zip(grad.chunks_exact_mut(channels));
        for (((grad_x, grad), x), &statistics) in rows.zip(x.chunks_exact(channels)).zip(statistics) {
            reduce::add(grad_bias, grad);
            backward_row(grad_x, grad, x, statistics, weight, grad_weight);
        }
    }
}

/// With `n` the normalised row and `h = grad * weight`: `grad_x += scale * (h - mean(h) - n * mean(h * n))`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn backward_row(
    grad_x: &mut [f32],
    grad: &mut [f32],
    x: &[f32],
    Statistics { mean, scale }: Statistics,
    weight: &[f32],
    grad_weight: &mut [f32],
) {
    let count = x.len() as f32;
    for (((h, x), weight), grad_weight) in grad.iter_mut().zip(x).zip(weight).zip(grad_weight) {
        *grad_weight += *h * ((x - mean) * scale);
        *h *= weight;
    }
    let h = &*grad;
    let mean_h = reduce::sum(h) / count;
    let mean_hn = reduce::dot_centered(h, x, mean) / count * scale;
    for ((grad_x, h), x) in grad_x.iter_mut().zip(h).zip(x) {
        *grad_x += scale * (h - mean_h - (x - mean) * scale * mean_hn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, noise, on_threads, wide};

    const EPS: f32 = 1e-3;

    fn reference(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let channels = weight.len();
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / channels as f64;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / channels as f64;
            let scale = (variance + f64::from(EPS)).sqrt().recip();
            x.iter().zip(weight.iter().zip(bias)).map(|(x, (w, b))| (x - mean) * scale * w + b).collect()
        };
        x.chunks(channels).flat_map(row).collect()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        // Fewer, as many, and more channels than a reduction has accumulators; two chunks of rows.
        for (rows, channels) in [(3, 5), (2, 16), (2, 37), (70, 3)] {
            let x: Vec<f32> = noise(1, rows * channels).iter().map(|x| 2.0 * x + 3.0).collect();
            let (weight, bias, grad) = (noise(2, channels), noise(3, channels), noise(4, rows * channels));
            let (x64, weight64, bias64) = (wide(&x), wide(&weight), wide(&bias));
            let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

            let (y, statistics) = forward(&x, &weight, &bias, EPS);
            assert_close(&y, &reference(&x64, &weight64, &bias64), 1e-5);
            assert_eq!(again(&x, &statistics, &weight, &bias), y);
            let mut grad_x = vec![0.0; x.len()];
            let [grad_weight, grad_bias] =
                backward_onto(&mut grad.clone(), &x, &statistics, &weight, &mut grad_x);
            check_gradient(&x, &grad_x, |x| loss(reference(x, &weight64, &bias64)));
            check_gradient(&weight, &grad_weight, |weight| loss(reference(&x64, weight, &bias64)));
            check_gradient(&bias, &grad_bias, |bias| loss(reference(&x64, &weight64, bias)));
        }
    }

    #[test]
    fn a_large_mean_does_not_spoil_the_variance() {
        let x: Vec<f32> = noise(1, 64).iter().map(|x| x + 1000.0).collect();
        let (weight, bias) = (vec![1.0; 64], vec![0.0; 64]);
        let expected = reference(&wide(&x), &wide(&weight), &wide(&bias));
        assert_close(&forward(&x, &weight, &bias, EPS).0, &expected, 2e-4);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (x, grad) = (noise(1, 300 * 48), noise(2, 300 * 48));
        let (weight, bias) = (noise(3, 48), noise(4, 48));
        let all = |threads| {
            on_threads(threads, || {
                let (y, statistics) = forward(&x, &weight, &bias, EPS);
                let mut grad_x = vec![1.0; x.len()];
                let grads = backward_onto(&mut grad.clone(), &x, &statistics, &weight, &mut grad_x);
                (y.into_vec(), grad_x, grads)
            })
        };
        assert_eq!(all(1), all(3));
    }
}
