//! `LayerNorm` over the channels of each row, with the biased variance (Ba et al. 2016).

use rayon::prelude::*;

use super::reduce;
use super::simd::multiversion;

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
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> (Vec<f32>, Vec<Statistics>) {
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && bias.len() == channels);
    let mut y = vec![0.0; x.len()];
    let mut statistics = vec![Statistics::default(); x.len() / channels];
    y.par_chunks_mut(ROWS * channels)
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks_mut(ROWS))
        .for_each(|((y, x), statistics)| layer_norm_rows(y, x, statistics, weight, bias, eps));
    (y, statistics)
}

multiversion! {
    fn layer_norm_rows(
        y: &mut [f32],
        x: &[f32],
        statistics: &mut [Statistics],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
    ) {
        let rows = y.chunks_exact_mut(weight.len()).zip(x.chunks_exact(weight.len()));
        for ((y, x), statistics) in rows.zip(statistics) {
            *statistics = normalize(y, x, weight, bias, eps);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn normalize(y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Statistics {
    let count = x.len() as f32;
    let mean = reduce::sum(x) / count;
    let scale = (reduce::sum_of_squares(x, mean) / count + eps).sqrt().recip();
    for ((y, x), (weight, bias)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
        *y = (x - mean) * scale * weight + bias;
    }
    Statistics { mean, scale }
}

/// The gradients of the rows, the weight and the bias.
pub fn backward(
    grad: &[f32],
    x: &[f32],
    statistics: &[Statistics],
    weight: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let channels = weight.len();
    assert_eq!((grad.len(), statistics.len() * channels), (x.len(), x.len()));
    let mut grad_x = vec![0.0; x.len()];
    // `[chunks, 2, C]`: each chunk's gradient of the weight, then of the bias.
    let mut partial = vec![0.0; statistics.len().div_ceil(ROWS) * 2 * channels];
    grad_x
        .par_chunks_mut(ROWS * channels)
        .zip(grad.par_chunks(ROWS * channels))
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks(ROWS))
        .zip(partial.par_chunks_mut(2 * channels))
        .for_each(|((((grad_x, grad), x), statistics), partial)| {
            layer_norm_backward_rows(grad_x, grad, x, statistics, weight, partial);
        });
    let mut grad_weight = vec![0.0; channels];
    let mut grad_bias = vec![0.0; channels];
    for partial in partial.chunks_exact(2 * channels) {
        reduce::add(&mut grad_weight, &partial[..channels]);
        reduce::add(&mut grad_bias, &partial[channels..]);
    }
    (grad_x, grad_weight, grad_bias)
}

multiversion! {
    /// `partial` is `[2, C]`: the gradients of the weight and of the bias, which these rows are added to.
    fn layer_norm_backward_rows(
        grad_x: &mut [f32],
        grad: &[f32],
        x: &[f32],
        statistics: &[Statistics],
        weight: &[f32],
        partial: &mut [f32],
    ) {
        let channels = weight.len();
        let (grad_weight, grad_bias) = partial.split_at_mut(channels);
        let rows = grad_x.chunks_exact_mut(channels).zip(grad.chunks_exact(channels));
        for (((grad_x, grad), x), &statistics) in rows.zip(x.chunks_exact(channels)).zip(statistics) {
            backward_row(grad_x, grad, x, statistics, weight, grad_weight);
            reduce::add(grad_bias, grad);
        }
    }
}

/// With `n` the normalised row and `h = grad * weight`: `grad_x = scale * (h - mean(h) - n * mean(h * n))`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn backward_row(
    grad_x: &mut [f32],
    grad: &[f32],
    x: &[f32],
    Statistics { mean, scale }: Statistics,
    weight: &[f32],
    grad_weight: &mut [f32],
) {
    let count = x.len() as f32;
    // `grad_x` holds `h` until its means are known.
    for ((h, grad), weight) in grad_x.iter_mut().zip(grad).zip(weight) {
        *h = grad * weight;
    }
    let mean_h = reduce::sum(grad_x) / count;
    let mean_hn = reduce::dot_centered(grad_x, x, mean) / count * scale;
    for (((h, x), grad), grad_weight) in grad_x.iter_mut().zip(x).zip(grad).zip(grad_weight) {
        let n = (x - mean) * scale;
        *grad_weight += grad * n;
        *h = scale * (*h - mean_h - n * mean_hn);
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
            let (grad_x, grad_weight, grad_bias) = backward(&grad, &x, &statistics, &weight);
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
                (y, backward(&grad, &x, &statistics, &weight))
            })
        };
        assert_eq!(all(1), all(3));
    }
}
