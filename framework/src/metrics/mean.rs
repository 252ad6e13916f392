//! Averages over batches of unequal size.

use serde::{Deserialize, Serialize};

/// A mean in which every value counts as often as it stands for samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightedMean {
    sum: f64,
    count: u64,
}

impl WeightedMean {
    /// Takes `value`, the mean over `count` samples.
    pub fn add(&mut self, value: f64, count: usize) {
        if count > 0 {
            self.sum += value * count as f64;
            self.count += count as u64;
        }
    }

    /// Takes what another mean has seen, for example that of another process.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// How many samples were seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean, or `None` before the first sample.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn mean_of(batches: &[(f64, usize)]) -> WeightedMean {
        let mut mean = WeightedMean::default();
        for &(value, count) in batches {
            mean.add(value, count);
        }
        mean
    }

    #[test]
    fn a_short_last_batch_counts_less() {
        assert_eq!(mean_of(&[(1.0, 3), (5.0, 1)]).mean(), Some(2.0));
    }

    #[test]
    fn nothing_seen_has_no_mean() {
        assert_eq!(WeightedMean::default().mean(), None);
        assert_eq!(mean_of(&[(f64::NAN, 0)]).mean(), None);
    }

    proptest! {
        #[test]
        fn the_order_of_batches_is_immaterial(
            batches in prop::collection::vec((-1e3..1e3_f64, 1..512_usize), 1..40),
        ) {
            let reversed: Vec<_> = batches.iter().rev().copied().collect();
            let (forth, back) = (mean_of(&batches).mean().unwrap(), mean_of(&reversed).mean().unwrap());
            prop_assert!((forth - back).abs() < 1e-9, "{forth} {back}");
        }

        #[test]
        fn merging_equals_seeing_everything(
            batches in prop::collection::vec((-1e3..1e3_f64, 1..512_usize), 2..40),
            at in 0..40_usize,
        ) {
            let (left, right) = batches.split_at(at.min(batches.len()));
            let mut merged = mean_of(left);
            merged.merge(&mean_of(right));
            let whole = mean_of(&batches);
            prop_assert_eq!(merged.count(), whole.count());
            prop_assert!((merged.mean().unwrap() - whole.mean().unwrap()).abs() < 1e-9);
        }
    }
}
