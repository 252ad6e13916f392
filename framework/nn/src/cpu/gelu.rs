//! GELU with the exact normal distribution function (PyTorch's default, `approximate='none'`).

// What is computed in vectors has to be inlined into the function that is compiled for them.

use std::f32::consts::LOG2_E;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::elementwise::CHUNK;
use super::simd::{exp2, vectorized};
use super::{Buffer, reduce};
use crate::Result;
use crate::profile;

/// `x * P(X <= x)` for a standard normal `X`.
pub fn forward(x: &[f32]) -> Result<Buffer> {
    let _span = profile::kernel("gelu");
    let mut y = Buffer::unspecified(x.len());
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| Arch::new().dispatch(Forward { y, x }));
    Ok(y)
}

/// Adds a bias to `x` and writes the activations to `y`.
pub fn forward_row(y: &mut [f32], x: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        vectorized(|| reduce::add(x, bias));
    }
    Arch::new().dispatch(Forward { y, x });
}

/// Replaces the gradient of the output by that of the input, and the input by the output.
pub fn backward_and_recompute(grad: &mut [f32], x: &mut [f32]) -> Result<()> {
    let _span = profile::kernel("gelu");
    assert_eq!(grad.len(), x.len());
    grad.par_chunks_mut(CHUNK).zip(x.par_chunks_mut(CHUNK)).for_each(|(grad, x)| backward_row(grad, x));
    Ok(())
}

/// [`backward_and_recompute`] on one thread.
pub fn backward_row(grad: &mut [f32], x: &mut [f32]) {
    Arch::new().dispatch(Backward { grad, x });
}

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ((ys, last_y), (xs, last_x)) = (S::as_mut_simd_f32s(self.y), S::as_simd_f32s(self.x));
        for (y, &x) in ys.iter_mut().zip(xs) {
            *y = gelu(simd, x);
        }
        simd.partial_store_f32s(last_y, gelu(simd, simd.partial_load_f32s(last_x)));
    }
}

#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, normal(simd, x).0)
}

struct Backward<'a> {
    grad: &'a mut [f32],
    x: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ((grads, last_grad), (xs, last_x)) =
            (S::as_mut_simd_f32s(self.grad), S::as_mut_simd_f32s(self.x));
        for (grad, x) in grads.iter_mut().zip(xs) {
            (*grad, *x) = backward(simd, *grad, *x);
        }
        let (grad, x) = backward(simd, simd.partial_load_f32s(last_grad), simd.partial_load_f32s(last_x));
        simd.partial_store_f32s(last_grad, grad);
        simd.partial_store_f32s(last_x, x);
    }
}

/// The gradient of the input, and the output.
#[inline(always)]
fn backward<S: Simd>(simd: S, grad: S::f32s, x: S::f32s) -> (S::f32s, S::f32s) {
    let (probability, density) = normal(simd, x);
    let slope = simd.mul_add_e_f32s(x, density, probability);
    (simd.mul_f32s(grad, slope), simd.mul_f32s(x, probability))
}

/// `P(X <= x)` and the density at `x` of a standard normal `X`.
///
/// The tail `P(X > a)`, `a = |x|`, is `exp(-a^2 / 2)` times a smooth function: here a minimax polynomial in
/// `0.35 a / (1 + 0.35 a)`, whose error in the probability is below 1e-8. Small `a` lose nothing to rounding.
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    const DENSITY_AT_ZERO: f32 = 0.398_942_28;
    /// Beyond this the tail is below the smallest normal number.
    const NO_TAIL: f32 = 13.0;

    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let a = simd.abs_f32s(x);
    let bell = exp2(simd, simd.mul_f32s(simd.mul_f32s(a, a), simd.splat_f32s(-0.5 * LOG2_E)));
    let bell = simd.select_f32s(simd.greater_than_f32s(a, simd.splat_f32s(NO_TAIL)), zero, bell);
    let scaled = simd.mul_f32s(a, simd.splat_f32s(0.35));
    let s = simd.div_f32s(scaled, simd.add_f32s(scaled, one));
    let mut p = simd.splat_f32s(0.049_124_431_98);
    for coefficient in
        [0.013_181_161_57, -0.159_263_565_1, -0.159_382_048_3, 0.900_946_069_9, -1.139_834_021, 0.5]
    {
        p = simd.mul_add_e_f32s(p, s, simd.splat_f32s(coefficient));
    }
    let tail = simd.mul_f32s(bell, p);
    let probability = simd.select_f32s(simd.less_than_f32s(x, zero), tail, simd.sub_f32s(one, tail));
    (probability, simd.mul_f32s(bell, simd.splat_f32s(DENSITY_AT_ZERO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradient, noise, normal_cdf};

    /// Replaces values by their probabilities.
    struct Probabilities<'a>(&'a mut [f32]);

    impl WithSimd for Probabilities<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for x in vectors {
                *x = normal(simd, *x).0;
            }
        }
    }

    #[test]
    fn the_probability_is_accurate_to_f32() {
        let x: Vec<f32> = (-8000..8000).map(|i| i as f32 * 0.001).collect();
        let mut probabilities = x.clone();
        Arch::new().dispatch(Probabilities(&mut probabilities));
        for (x, probability) in x.iter().zip(probabilities) {
            let error = (f64::from(probability) - normal_cdf(f64::from(*x))).abs();
            assert!(error < 1e-7, "P(X <= {x}) is off by {error:e}");
        }
    }

    #[test]
    fn large_inputs_give_the_limits() {
        assert_eq!(forward(&[0.0, 20.0, 1e30, -20.0, -1e30]).unwrap()[..], [0.0, 20.0, 1e30, 0.0, 0.0]);
        assert!(forward(&[f32::NAN]).unwrap()[0].is_nan());
    }

    #[test]
    fn gradient_equals_finite_differences() {
        let x: Vec<f32> = noise(1, 200).iter().map(|x| 3.0 * x).collect();
        let grad = noise(2, 200);
        let expected: Vec<f64> = x.iter().map(|&x| f64::from(x) * normal_cdf(f64::from(x))).collect();
        assert_close(&forward(&x).unwrap(), &expected, 1e-6);
        let (mut grad_x, mut again) = (grad.clone(), x.clone());
        backward_and_recompute(&mut grad_x, &mut again).unwrap();
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
        assert_eq!((&x, &y[..]), (&sums, &forward(&sums).unwrap()[..]));
    }
}
