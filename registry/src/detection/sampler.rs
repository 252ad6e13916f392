//! Which boxes the losses are computed of (`detectron2.modeling.sampling.subsample_labels`).

use convmae_framework::random::Rng;
use rand::seq::index;

use super::matcher::Label;

/// Indices of sampled boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Of objects, ascending.
    pub positive: Vec<usize>,
    /// Of background, ascending.
    pub negative: Vec<usize>,
}

/// Draws at most `num_samples` boxes, at most the part `positive_fraction` of them positive; negative ones fill up what is left.
pub fn subsample_labels(
    labels: &[Label],
    num_samples: usize,
    positive_fraction: f64,
    rng: &mut Rng,
) -> Sampled {
    let mut draw = |label: Label, most: usize| {
        let all: Vec<usize> = (0..labels.len()).filter(|&at| labels[at] == label).collect();
        let mut drawn = index::sample(rng, all.len(), most.min(all.len())).into_vec();
        drawn.sort_unstable();
        drawn.into_iter().map(|at| all[at]).collect::<Vec<_>>()
    };
    let positive = draw(Label::Positive, (num_samples as f64 * positive_fraction) as usize);
    let negative = draw(Label::Negative, num_samples.saturating_sub(positive.len()));
    Sampled { positive, negative }
}

#[cfg(test)]
mod tests {
    use convmae_framework::random::{self, Purpose};

    use super::*;

    fn sample(positive: usize, ignored: usize, negative: usize, seed: u64) -> Sampled {
        let labels = [(Label::Positive, positive), (Label::Ignored, ignored), (Label::Negative, negative)];
        let labels: Vec<_> = labels.iter().flat_map(|&(label, count)| vec![label; count]).collect();
        subsample_labels(&labels, 64, 0.25, &mut random::stream(Purpose::Image, &[seed]))
    }

    #[test]
    fn negative_boxes_fill_up_what_positive_ones_leave() {
        for (positive, negative, expected) in [(100, 100, [16, 48]), (5, 100, [5, 59]), (100, 7, [16, 7])] {
            let sampled = sample(positive, 10, negative, 1);
            assert_eq!([sampled.positive.len(), sampled.negative.len()], expected);
            assert!(sampled.positive.iter().all(|&at| at < positive));
            assert!(sampled.negative.iter().all(|&at| at >= positive + 10));
        }
    }

    #[test]
    fn every_box_is_as_likely_and_a_seed_draws_the_same() {
        let mut counts = [0_u32; 100];
        for seed in 0..2000 {
            let sampled = sample(100, 0, 100, seed);
            assert_eq!(sampled, sample(100, 0, 100, seed));
            assert!(sampled.positive.is_sorted_by(|a, b| a < b));
            sampled.positive.iter().for_each(|&at| counts[at] += 1);
        }
        // Binomial, 2000 draws of 0.16: 320 with a deviation of 16.4.
        assert!(counts.iter().all(|count| (230..410).contains(count)), "{counts:?}");
    }
}
