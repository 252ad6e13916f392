//! `LayerNorm` over the channels of each row, with the biased variance (Ba et al. 2016).

// What is computed in vectors has to be inlined into the function that is compiled for them.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::elementwise::accumulate;
use super::simd::{sum, sum_of_squares};
use super::{Buffer, Output, reduce};
use crate::Result;
use crate::profile;

/// Rows that one thread takes at a time.
const ROWS: usize = 32;

/// Rows that stay in the nearest cache while they are measured and normalised: no row waits for the sums of the one before.
const BLOCK: usize = 8;

/// What the backward needs of each row.
#[derive(Debug, Clone)]
pub struct Statistics(Vec<RowStatistics>);

#[derive(Debug, Clone, Copy, Default)]
struct RowStatistics {
    mean: f32,
    /// `1 / sqrt(variance + eps)`.
    scale: f32,
}

/// Rows `[R, C]` normalised, times `weight`, plus `bias`.
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Result<(Buffer, Statistics)> {
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && bias.len() == channels);
    let mut y = Buffer::unspecified(x.len());
    let mut statistics = vec![RowStatistics::default(); x.len() / channels];
    y.par_chunks_mut(ROWS * channels)
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks_mut(ROWS))
        .for_each(|((y, x), statistics)| {
            Arch::new().dispatch(Forward { y, x, statistics, weight, bias, eps });
        });
    Ok((y, Statistics(statistics)))
}

/// [`forward`], as products take it.
pub fn operand(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Result<(Buffer, Statistics)> {
    forward(x, weight, bias, eps)
}

/// What [`operand`] yielded, from its statistics.
pub fn recompute(x: &[f32], statistics: &Statistics, weight: &[f32], bias: &[f32]) -> Result<Buffer> {
    let statistics = &*statistics.0;
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert!(x.len() == statistics.len() * channels && bias.len() == channels);
    let mut y = Buffer::unspecified(x.len());
    y.par_chunks_mut(ROWS * channels)
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks(ROWS))
        .for_each(|((y, x), statistics)| {
            Arch::new().dispatch(Normalize { y, x, statistics, weight, bias });
        });
    Ok(y)
}

/// Measures and normalises some rows.
struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    statistics: &'a mut [RowStatistics],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (channels, count) = (self.weight.len(), self.weight.len() as f32);
        let blocks = self.y.chunks_mut(BLOCK * channels).zip(self.x.chunks(BLOCK * channels));
        for ((y, x), statistics) in blocks.zip(self.statistics.chunks_mut(BLOCK)) {
            for (x, statistics) in x.chunks_exact(channels).zip(&mut *statistics) {
                statistics.mean = sum(simd, x) / count;
            }
            for (x, RowStatistics { mean, scale }) in x.chunks_exact(channels).zip(&mut *statistics) {
                *scale = (sum_of_squares(simd, x, *mean) / count + self.eps).sqrt().recip();
            }
            Normalize { y, x, statistics, weight: self.weight, bias: self.bias }.with_simd(simd);
        }
    }
}

/// Normalises some rows.
struct Normalize<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    statistics: &'a [RowStatistics],
    weight: &'a [f32],
    bias: &'a [f32],
}

impl WithSimd for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.weight.len();
        let [(weights, last_weight), (biases, last_bias)] = [self.weight, self.bias].map(S::as_simd_f32s);
        let rows = self.y.chunks_exact_mut(channels).zip(self.x.chunks_exact(channels));
        for ((y, x), statistics) in rows.zip(self.statistics) {
            let row = Center::new(simd, *statistics);
            let ((ys, last_y), (xs, last_x)) = (S::as_mut_simd_f32s(y), S::as_simd_f32s(x));
            for ((y, &x), (&weight, &bias)) in ys.iter_mut().zip(xs).zip(weights.iter().zip(biases)) {
                *y = simd.mul_add_e_f32s(row.normalize(simd, x), weight, bias);
            }
            let [x, weight, bias] = load(simd, [last_x, last_weight, last_bias]);
            let y = simd.mul_add_e_f32s(row.normalize(simd, x), weight, bias);
            simd.partial_store_f32s(last_y, y);
        }
    }
}

/// The statistics of a row in all lanes.
struct Center<S: Simd> {
    mean: S::f32s,
    scale: S::f32s,
}

impl<S: Simd> Center<S> {
    #[inline(always)]
    fn new(simd: S, RowStatistics { mean, scale }: RowStatistics) -> Self {
        Self { mean: simd.splat_f32s(mean), scale: simd.splat_f32s(scale) }
    }

    #[inline(always)]
    fn normalize(&self, simd: S, x: S::f32s) -> S::f32s {
        simd.mul_f32s(simd.sub_f32s(x, self.mean), self.scale)
    }
}

/// Fewer values than a vector has, and zeros.
#[inline(always)]
fn load<S: Simd, const N: usize>(simd: S, values: [&[f32]; N]) -> [S::f32s; N] {
    let mut vectors = [simd.splat_f32s(0.0); N];
    for (vector, values) in vectors.iter_mut().zip(values) {
        *vector = simd.partial_load_f32s(values);
    }
    vectors
}

/// Adds the gradient of the rows to `grad_x`, and writes or adds those of the weight and of the bias where they are asked for.
pub fn backward_onto(
    grad: &[f32],
    x: &[f32],
    statistics: &Statistics,
    weight: &[f32],
    grad_x: &mut Buffer,
    sums: [Option<(&mut [f32], Output)>; 2],
) -> Result<()> {
    let statistics = &*statistics.0;
    let _span = profile::kernel("layer norm");
    let channels = weight.len();
    assert_eq!([grad.len(), grad_x.len(), statistics.len() * channels], [x.len(); 3]);
    // `[chunks, 2, C]`: each chunk's gradient of the weight, then of the bias.
    let mut partial = Buffer::zeros(statistics.len().div_ceil(ROWS) * 2 * channels);
    grad_x
        .par_chunks_mut(ROWS * channels)
        .zip(grad.par_chunks(ROWS * channels))
        .zip(x.par_chunks(ROWS * channels))
        .zip(statistics.par_chunks(ROWS))
        .zip(partial.par_chunks_mut(2 * channels))
        .for_each(|((((grad_x, grad), x), statistics), partial)| {
            Arch::new().dispatch(Backward { grad_x, grad, x, statistics, weight, partial });
        });
    let mut grads = [vec![0.0; channels], vec![0.0; channels]];
    for partial in partial.chunks_exact(2 * channels) {
        for (grad, partial) in grads.iter_mut().zip(partial.chunks_exact(channels)) {
            reduce::add(grad, partial);
        }
    }
    for (sum, grad) in sums.into_iter().zip(&grads) {
        if let Some((sum, mode)) = sum {
            accumulate(sum, grad, mode)?;
        }
    }
    Ok(())
}

/// The backward of some rows.
struct Backward<'a> {
    grad_x: &'a mut [f32],
    grad: &'a [f32],
    x: &'a [f32],
    statistics: &'a [RowStatistics],
    weight: &'a [f32],
    /// `[2, C]`: the gradients of the weight and of the bias, which those of these rows are added to.
    partial: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.weight.len();
        let (grad_weight, grad_bias) = self.partial.split_at_mut(channels);
        let rows = self.grad_x.chunks_exact_mut(channels).zip(self.grad.chunks_exact(channels));
        for (((grad_x, grad), x), &statistics) in rows.zip(self.x.chunks_exact(channels)).zip(self.statistics)
        {
            let row = Row { grad, x, weight: self.weight, statistics };
            let sums = row.params(simd, grad_weight, grad_bias);
            row.input(simd, grad_x, sums);
        }
    }
}

/// What the backward of a row reads.
#[derive(Clone, Copy)]
struct Row<'a> {
    grad: &'a [f32],
    x: &'a [f32],
    weight: &'a [f32],
    statistics: RowStatistics,
}

impl Row<'_> {
    /// Adds the gradients of the parameters; returns the sums of `h` and of `h * n`, where `n` is the normalised row and `h` is
    /// `grad * weight`.
    #[inline(always)]
    fn params<S: Simd>(self, simd: S, grad_weight: &mut [f32], grad_bias: &mut [f32]) -> [f32; 2] {
        let mut sums = Sums::new(simd, self.statistics);
        let [(grads, last_grad), (xs, last_x), (weights, last_weight)] =
            [self.grad, self.x, self.weight].map(S::as_simd_f32s);
        let [(grad_weights, last_grad_weight), (grad_biases, last_grad_bias)] =
            [grad_weight, grad_bias].map(S::as_mut_simd_f32s);
        let params = grad_weights.iter_mut().zip(grad_biases);
        for (((&grad, &x), &weight), (grad_weight, grad_bias)) in
            grads.iter().zip(xs).zip(weights).zip(params)
        {
            sums.add(simd, [grad, x, weight], [grad_weight, grad_bias]);
        }
        // Where there are no more values, the gradient is zero.
        let row = load(simd, [last_grad, last_x, last_weight]);
        let [mut grad_weight, mut grad_bias] = load(simd, [last_grad_weight, last_grad_bias]);
        sums.add(simd, row, [&mut grad_weight, &mut grad_bias]);
        simd.partial_store_f32s(last_grad_weight, grad_weight);
        simd.partial_store_f32s(last_grad_bias, grad_bias);
        [simd.reduce_sum_f32s(sums.h), simd.reduce_sum_f32s(sums.hn)]
    }

    /// `grad_x += scale * (h - mean(h) - n * mean(h * n))`.
    #[inline(always)]
    fn input<S: Simd>(self, simd: S, grad_x: &mut [f32], sums: [f32; 2]) {
        let [mean_h, mean_hn] = sums.map(|sum| sum / self.x.len() as f32);
        let line = Line::new(simd, self.statistics, mean_h, mean_hn);
        let [(grads, last_grad), (xs, last_x), (weights, last_weight)] =
            [self.grad, self.x, self.weight].map(S::as_simd_f32s);
        let (grad_xs, last_grad_x) = S::as_mut_simd_f32s(grad_x);
        for (((grad_x, &grad), &x), &weight) in grad_xs.iter_mut().zip(grads).zip(xs).zip(weights) {
            *grad_x = line.add(simd, *grad_x, [grad, x, weight]);
        }
        let [grad_x, grad, x, weight] = load(simd, [last_grad_x, last_grad, last_x, last_weight]);
        simd.partial_store_f32s(last_grad_x, line.add(simd, grad_x, [grad, x, weight]));
    }
}

/// Sums over a row, lane by lane.
struct Sums<S: Simd> {
    center: Center<S>,
    h: S::f32s,
    hn: S::f32s,
}

impl<S: Simd> Sums<S> {
    #[inline(always)]
    fn new(simd: S, statistics: RowStatistics) -> Self {
        let zero = simd.splat_f32s(0.0);
        Self { center: Center::new(simd, statistics), h: zero, hn: zero }
    }

    /// Adds to the sums, and to the gradients of the weight and of the bias.
    #[inline(always)]
    fn add(&mut self, simd: S, [grad, x, weight]: [S::f32s; 3], params: [&mut S::f32s; 2]) {
        let [grad_weight, grad_bias] = params;
        let (n, h) = (self.center.normalize(simd, x), simd.mul_f32s(grad, weight));
        *grad_weight = simd.mul_add_e_f32s(grad, n, *grad_weight);
        *grad_bias = simd.add_f32s(*grad_bias, grad);
        self.h = simd.add_f32s(self.h, h);
        self.hn = simd.mul_add_e_f32s(h, n, self.hn);
    }
}

/// What is added to the gradient of the input, as a function of `h` and `x`: `scale * h + slope * (x - mean) + shift`.
struct Line<S: Simd> {
    center: Center<S>,
    slope: S::f32s,
    shift: S::f32s,
}

impl<S: Simd> Line<S> {
    #[inline(always)]
    fn new(simd: S, statistics: RowStatistics, mean_h: f32, mean_hn: f32) -> Self {
        let scale = statistics.scale;
        let (slope, shift) = (-scale * scale * mean_hn, -scale * mean_h);
        Self {
            center: Center::new(simd, statistics),
            slope: simd.splat_f32s(slope),
            shift: simd.splat_f32s(shift),
        }
    }

    #[inline(always)]
    fn add(&self, simd: S, grad_x: S::f32s, [grad, x, weight]: [S::f32s; 3]) -> S::f32s {
        let centered = simd.sub_f32s(x, self.center.mean);
        let rest = simd.mul_add_e_f32s(centered, self.slope, self.shift);
        let h = simd.mul_f32s(grad, weight);
        simd.add_f32s(grad_x, simd.mul_add_e_f32s(h, self.center.scale, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradient, noise, on_threads, wide};

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

            let (y, statistics) = forward(&x, &weight, &bias, EPS).unwrap();
            assert_close(&y, &reference(&x64, &weight64, &bias64), 1e-5);
            assert_eq!(recompute(&x, &statistics, &weight, &bias).unwrap(), y);
            let mut grad_x = Buffer::zeros(x.len());
            let [mut grad_weight, mut grad_bias] = [vec![f32::NAN; channels], vec![f32::NAN; channels]];
            let sums = [&mut grad_weight, &mut grad_bias].map(|sum| Some((&mut **sum, Output::Replace)));
            backward_onto(&grad, &x, &statistics, &weight, &mut grad_x, sums).unwrap();
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
        assert_close(&forward(&x, &weight, &bias, EPS).unwrap().0, &expected, 2e-4);
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (x, grad) = (noise(1, 300 * 48), noise(2, 300 * 48));
        let (weight, bias) = (noise(3, 48), noise(4, 48));
        let all = |threads| {
            on_threads(threads, || {
                let (y, statistics) = forward(&x, &weight, &bias, EPS).unwrap();
                let mut grad_x = Buffer::copy(&x);
                let mut grads = [vec![1.0; 48], vec![1.0; 48]];
                let sums = grads.each_mut().map(|sum| Some((&mut **sum, Output::Add)));
                backward_onto(&grad, &x, &statistics, &weight, &mut grad_x, sums).unwrap();
                (y.into_vec(), grad_x.into_vec(), grads)
            })
        };
        assert_eq!(all(1), all(3));
    }
}
