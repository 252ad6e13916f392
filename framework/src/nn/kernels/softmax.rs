//! Softmax of one row.

use super::reduce;
use super::simd::exp;

/// Replaces scores by probabilities; returns the logarithm of the sum of the scores' exponentials.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn softmax(scores: &mut [f32]) -> f32 {
    let max = reduce::max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    let sum = reduce::sum(scores);
    let scale = sum.recip();
    for probability in scores.iter_mut() {
        *probability *= scale;
    }
    max + sum.ln()
}

/// Replaces scores by probabilities, given what [`softmax`] returned for them.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn recompute(scores: &mut [f32], log_sum_exp: f32) {
    for score in scores.iter_mut() {
        *score = exp(*score - log_sum_exp);
    }
}

/// Replaces the gradients of the probabilities by those of the scores.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn backward(grad: &mut [f32], probabilities: &[f32]) {
    let mean = reduce::dot(grad, probabilities);
    for (grad, probability) in grad.iter_mut().zip(probabilities) {
        *grad = probability * (*grad - mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, noise};

    #[test]
    fn probabilities_and_their_recomputation_agree_with_f64() {
        let scores: Vec<f32> = noise(1, 53).iter().map(|x| 20.0 * x).collect();
        let exps: Vec<f64> = scores.iter().map(|&score| f64::from(score).exp()).collect();
        let sum: f64 = exps.iter().sum();
        let expected: Vec<f64> = exps.iter().map(|exp| exp / sum).collect();
        let (mut direct, mut again) = (scores.clone(), scores);
        let log_sum_exp = softmax(&mut direct);
        recompute(&mut again, log_sum_exp);
        assert!((f64::from(log_sum_exp) - sum.ln()).abs() < 1e-5);
        assert_close(&direct, &expected, 1e-6);
        assert_close(&again, &expected, 1e-5);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut scores = [1e4, 1e4, -1e4];
        softmax(&mut scores);
        assert_eq!(scores[..2], [0.5, 0.5]);
        assert!(scores[2] < 1e-37);
    }
}
