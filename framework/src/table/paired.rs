//! What a row gains over another, told within seeds.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::metrics::Spread;

/// The mean difference between two rows over the seeds that both have, and how surely it is known. What a seed does to
/// both, such as its choice of labelled images, drops out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedDifference {
    /// The mean of the differences.
    pub mean: f64,
    /// The 95 % confidence interval of the mean, by Student's t; of one pair there is none.
    pub interval: Option<[f64; 2]>,
    /// How many seeds both have.
    pub n: usize,
}

impl PairedDifference {
    /// Figures by seed, minus those of the baseline; `None` if no seed is in both.
    pub fn between(figures: &BTreeMap<u64, f64>, baseline: &BTreeMap<u64, f64>) -> Option<Self> {
        let pairs = figures.iter().filter_map(|(seed, figure)| Some(figure - baseline.get(seed)?));
        let Spread { mean, std, n } = Spread::of(&pairs.collect::<Vec<_>>())?;
        let interval = std.and_then(|std| {
            let student = StudentsT::new(0.0, 1.0, (n - 1) as f64).ok()?;
            let reach = student.inverse_cdf(0.975) * std / (n as f64).sqrt();
            Some([mean - reach, mean + reach])
        });
        Some(Self { mean, interval, n })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn by_seed<const N: usize>(figures: [(u64, f64); N]) -> BTreeMap<u64, f64> {
        BTreeMap::from(figures)
    }

    /// `scipy.stats.ttest_rel([31.2, 33.0, 32.1, 30.4], [30.5, 31.1, 31.4, 30.1]).confidence_interval()`.
    #[test]
    fn the_interval_is_that_of_a_paired_t_test() {
        let ours = by_seed([(0, 31.2), (1, 33.0), (2, 32.1), (3, 30.4), (7, 99.0)]);
        let baseline = by_seed([(0, 30.5), (1, 31.1), (2, 31.4), (3, 30.1), (8, 0.0)]);
        let PairedDifference { mean, interval, n } = PairedDifference::between(&ours, &baseline).unwrap();
        let [low, high] = interval.unwrap();
        assert!((mean - 0.9).abs() < 1e-9 && n == 4);
        assert!((low + 0.202_432).abs() < 1e-6 && (high - 2.002_432).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn one_pair_has_no_interval_and_no_pair_no_difference() {
        let one = PairedDifference::between(&by_seed([(1, 2.5)]), &by_seed([(0, 9.0), (1, 2.0)])).unwrap();
        assert_eq!(one, PairedDifference { mean: 0.5, interval: None, n: 1 });
        assert_eq!(PairedDifference::between(&by_seed([(1, 2.5)]), &by_seed([(0, 9.0)])), None);
    }
}
