//! Logits or probabilities of every pixel.

use convmae_framework::nn::cpu::argmax::argmax;
use convmae_framework::nn::{self, Tape, Tensor, ops};
use rayon::prelude::*;

/// Logits or probabilities of the classes of every pixel: `[height, width, classes]`.
#[derive(Debug, Clone)]
pub struct Scores {
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
    pub classes: usize,
}

impl Scores {
    /// Interpolated bilinearly to another size.
    pub fn resized(self, height: usize, width: usize) -> nn::Result<Self> {
        if (height, width) == (self.height, self.width) {
            return Ok(self);
        }
        let shape = (1, self.height, self.width, self.classes);
        let resized =
            ops::resize_bilinear(Tensor::from_vec(self.values, shape, &Tape::none())?, (height, width))?;
        Ok(Self { values: resized.to_vec()?, height, width, classes: self.classes })
    }

    /// The softmax over the classes of every pixel.
    pub fn into_probabilities(mut self) -> Self {
        self.values.par_chunks_mut(self.classes).with_min_len(256).for_each(|logits| {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|exp| *exp /= sum);
        });
        self
    }

    /// With left and right exchanged.
    pub fn flipped(mut self) -> Self {
        let (width, classes) = (self.width, self.classes);
        self.values.par_chunks_mut(width * classes).for_each(|row| {
            for left in 0..width / 2 {
                let (start, end) = row.split_at_mut((width - 1 - left) * classes);
                start[left * classes..][..classes].swap_with_slice(&mut end[..classes]);
            }
        });
        self
    }

    /// The sum with others of the same shape.
    pub fn plus(mut self, other: &Self) -> Self {
        let terms = self.values.par_iter_mut().zip(&other.values).with_min_len(1 << 14);
        terms.for_each(|(sum, term)| *sum += term);
        self
    }

    /// The index of the largest score of every pixel, the first of equal ones: `[height, width]`.
    pub fn largest(&self) -> Vec<u8> {
        let scores = self.values.par_chunks(self.classes).with_min_len(256);
        scores.map(|scores| argmax(scores) as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::Golden;
    use super::*;

    fn scores(height: usize, width: usize, classes: usize) -> Scores {
        let values = (0..height * width * classes).map(|at| (at * 7919 % 61) as f32 / 10.0).collect();
        Scores { values, height, width, classes }
    }

    #[test]
    fn logits_are_resized_as_by_mmsegmentation() {
        let golden = Golden::read();
        let resized = golden.scores("slide.logits_0_1").resized(150, 136).unwrap();
        let expected = golden.scores("slide.logits_rescaled");
        let largest = expected.values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        for (resized, expected) in resized.values.chunks(2).zip(expected.values.chunks(7)) {
            let error = (resized[0] - expected[0]).abs().max((resized[1] - expected[1]).abs());
            assert!(error <= 2e-5 * largest, "{error}");
        }
    }

    #[test]
    fn classes_are_those_of_mmsegmentation_mirrored_or_not() {
        let golden = Golden::read();
        let logits = golden.scores("slide.logits_rescaled");
        assert_eq!(logits.largest(), golden.bytes("slide.prob_rescaled_argmax"));
        let probabilities = logits.into_probabilities();
        assert_eq!(probabilities.largest(), golden.bytes("slide.prob_rescaled_argmax"));
        assert_eq!(probabilities.flipped().largest(), golden.bytes("slide.flip_prob_rescaled_argmax"));
    }

    #[test]
    fn probabilities_add_up_to_one_and_do_not_overflow() {
        let mut logits = scores(3, 4, 5);
        logits.values[0] = 1e30;
        let probabilities = logits.into_probabilities();
        for pixel in probabilities.values.chunks(5) {
            assert!((pixel.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(probabilities.values[..5], [1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn mirroring_exchanges_pixels_and_keeps_their_classes() {
        for width in [1, 4, 5] {
            let (before, after) = (scores(2, width, 3), scores(2, width, 3).flipped());
            for (row, column) in (0..2).flat_map(|row| (0..width).map(move |column| (row, column))) {
                let pixel =
                    |of: &Scores, column: usize| of.values[(row * width + column) * 3..][..3].to_vec();
                assert_eq!(pixel(&after, column), pixel(&before, width - 1 - column));
            }
        }
    }
}
