//! GELU with the exact normal distribution function (PyTorch's default, `approximate='none'`).

use rayon::prelude::*;

use super::Buffer;
use super::elementwise::CHUNK;
use super::simd::{exp, multiversion};
use crate::nn::profile;

/// `x * P(X <= x)` for a standard normal `X`.
pub fn forward(x: &[f32]) -> Buffer {
    let _span = profile::kernel("gelu");
    let mut y = Buffer::unspecified(x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| gelu_row(y, x));
    y
}

/// Adds a bias to `x` and writes the activations to `y`.
pub fn forward_row(y: &mut [f32], x: &mut [f32], bias: Option<&[f32]>) {
    match bias {
        Some(bias) => gelu_biased_row(y, x, bias),
        None => gelu_row(y, x),
    }
}

multiversion! {
    fn gelu_row(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = gelu(x);
        }
    }
}

multiversion! {
    fn gelu_biased_row(y: &mut [f32], x: &mut [f32], bias: &[f32]) {
        for ((y, x), bias) in y.iter_mut().zip(x).zip(bias) {
            *x += bias;
            *y = gelu(*x);
        }
    }
}

/// Replaces the gradient of the output by that of the input, and the input by the output.
pub fn backward_again(grad: &mut [f32], x: &mut [f32]) {
    let _span = profile::kernel("gelu");
    assert_eq!(grad.len(), x.len());
    grad.par_chunks_mut(CHUNK).zip(x.par_chunks_mut(CHUNK)).for_each(|(grad, x)| backward_row(grad, x));
}

multiversion! {
    /// [`backward_again`] on one thread.
    pub fn backward_row(grad: &mut [f32], x: &mut [f32]) {
        for (grad, x) in grad.iter_mut().zip(x) {
            let (probability, density) = normal(*x);
            *grad *= probability + *x * density;
            *x *= probability;
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)]
fn gelu(x: f32) -> f32 {
    x * normal(x).0
}

/// `P(X <= x)` and the density at `x` of a standard normal `X`.
///
/// The tail `P(X > a)`, `a = |x|`, is `exp(-a^2 / 2)` times a smooth function: here a minimax polynomial in
/// `0.35 a / (1 + 0.35 a)`, whose error in the probability is below 1e-8. Small `a` lose nothing to rounding.
#[inline(always)]
#[allow(clippy::inline_always, clippy::excessive_precision)]
fn normal(x: f32) -> (f32, f32) {
    const DENSITY_AT_ZERO: f32 = 0.398_942_28;
    /// Beyond this the tail is below the smallest normal number.
    const NO_TAIL: f32 = 13.0;

    let a = x.abs();
    let bell = if a > NO_TAIL { 0.0 } else { exp(-0.5 * a * a) };
    let s = 0.35 * a / (1.0 + 0.35 * a);
    let mut p = 0.049_124_431_98;
    p = p * s + 0.013_181_161_57;
    p = p * s - 0.159_263_565_1;
    p = p * s - 0.159_382_048_3;
    p = p * s + 0.900_946_069_9;
    p = p * s - 1.139_834_021;
    p = p * s + 0.5;
    let tail = bell * p;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * DENSITY_AT_ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, noise, normal_cdf};

    #[test]
    fn the_probability_is_accurate_to_f32() {
        for i in -8000..=8000 {
            let x = i as f32 * 0.001;
            let error = (f64::from(normal(x).0) - normal_cdf(f64::from(x))).abs();
            assert!(error < 1e-7, "P(X <= {x}) is off by {error:e}");
        }
    }

    #[test]
    fn large_inputs_give_the_limits() {
        assert_eq!(forward(&[0.0, 20.0, 1e30, -20.0, -1e30])[..], [0.0, 20.0, 1e30, 0.0, 0.0]);
        assert!(forward(&[f32::NAN])[0].is_nan());
    }

    #[test]
    fn gradient_equals_finite_differences() {
        let x: Vec<f32> = noise(1, 200).iter().map(|x| 3.0 * x).collect();
        let grad = noise(2, 200);
        let expected: Vec<f64> = x.iter().map(|&x| f64::from(x) * normal_cdf(f64::from(x))).collect();
        assert_close(&forward(&x), &expected, 1e-6);
        let (mut grad_x, mut again) = (grad.clone(), x.clone());
        backward_again(&mut grad_x, &mut again);
        assert_close(&again, &expected, 1e-6);
        check_gradient(&x, &grad_x, |x| {
            x.iter().zip(&grad).map(|(x, &grad)| f64::from(grad) * x * normal_cdf(*x)).sum()
        });
    }

    #[test]
    fn a_bias_is_added_first() {
        let (mut x, bias) = (noise(1, 12), noise(2, 12));
        let sums: Vec<f32> = x.iter().zip(&bias).map(|(x, bias)| x + bias).collect();
        let mut y = vec![0.0; 12];
        forward_row(&mut y, &mut x, Some(&bias));
        assert_eq!((&x, &y[..]), (&sums, &forward(&sums)[..]));
    }
}
