//! Softmax of rows of scores, on whole vectors.
//!
//! In base two: `2^x / sum(2^x)`, for powers of two are cheaper than those of e. The scores come multiplied by log2(e).

use pulp::Simd;

use super::simd::exp2;

/// Replaces scores by probabilities times their sum, which the caller divides by later, where there is less to divide. Returns the
/// largest score and that sum: `max + log2(sum)` is what [`backward`] needs.
#[inline(always)]
pub fn unnormalized<S: Simd>(simd: S, scores: &mut [S::f32s]) -> (f32, f32) {
    let mut max = simd.splat_f32s(f32::NEG_INFINITY);
    for &score in scores.iter() {
        max = simd.max_f32s(max, score);
    }
    let max = simd.reduce_max_f32s(max);
    let shift = simd.splat_f32s(max);
    let mut sum = simd.splat_f32s(0.0);
    for score in scores.iter_mut() {
        *score = exp2(simd, simd.sub_f32s(*score, shift));
        sum = simd.add_f32s(sum, *score);
    }
    (max, simd.reduce_sum_f32s(sum))
}

/// Replaces scores by probabilities, given the binary logarithm of the sum of their powers, and the gradients of the probabilities by
/// those of the scores (of what they were before log2(e) came in), given their mean by the probabilities.
#[inline(always)]
pub fn backward<S: Simd>(simd: S, grad: &mut [S::f32s], scores: &mut [S::f32s], normaliser: f32, mean: f32) {
    let [shift, mean] = [normaliser, mean].map(|value| simd.splat_f32s(value));
    for (grad, score) in grad.iter_mut().zip(scores.iter_mut()) {
        *score = exp2(simd, simd.sub_f32s(*score, shift));
        *grad = simd.mul_f32s(*score, simd.sub_f32s(*grad, mean));
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::LOG2_E;

    use pulp::{Arch, WithSimd};

    use super::*;
    use crate::testing::{assert_close, noise, wide};

    const LEN: usize = 64;

    struct Forward<'a>(&'a mut [f32]);

    impl WithSimd for Forward<'_> {
        type Output = (f32, f32);

        fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
            unnormalized(simd, S::as_mut_simd_f32s(self.0).0)
        }
    }

    struct Backward<'a>(&'a mut [f32], &'a mut [f32], f32, f32);

    impl WithSimd for Backward<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let Self(grad, scores, normaliser, mean) = self;
            let (grad, scores) = (S::as_mut_simd_f32s(grad).0, S::as_mut_simd_f32s(scores).0);
            backward(simd, grad, scores, normaliser, mean);
        }
    }

    #[test]
    fn probabilities_their_recomputation_and_gradients_agree_with_f64() {
        let natural: Vec<f32> = noise(1, LEN).iter().map(|x| 20.0 * x).collect();
        let binary: Vec<f32> = natural.iter().map(|x| x * LOG2_E).collect();
        let mut grad = noise(2, LEN);
        let exps: Vec<f64> = natural.iter().map(|&score| f64::from(score).exp()).collect();
        let total: f64 = exps.iter().sum();
        let expected: Vec<f64> = exps.iter().map(|exp| exp / total).collect();
        let mean: f64 = expected.iter().zip(wide(&grad)).map(|(p, grad)| p * grad).sum();
        let expected_grad: Vec<f64> =
            expected.iter().zip(wide(&grad)).map(|(p, grad)| p * (grad - mean)).collect();

        let (mut direct, mut again) = (binary.clone(), binary);
        let (max, sum) = Arch::new().dispatch(Forward(&mut direct));
        Arch::new().dispatch(Backward(&mut grad, &mut again, max + sum.log2(), mean as f32));
        assert_close(&direct.iter().map(|p| p / sum).collect::<Vec<_>>(), &expected, 1e-6);
        assert_close(&again, &expected, 1e-5);
        assert_close(&grad, &expected_grad, 1e-5);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut scores = [1e4, -1e4].repeat(LEN / 2);
        let (max, sum) = Arch::new().dispatch(Forward(&mut scores));
        assert_eq!((max, sum), (1e4, LEN as f32 / 2.0));
        assert!(scores[0] == 1.0 && scores[1] < 1e-37);
    }
}
