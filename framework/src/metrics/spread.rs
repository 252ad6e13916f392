//! Means and standard deviations over runs.

/// A number, or the mean of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (over n - 1); of one value there is none.
    pub std: Option<f64>,
    /// How many runs it is the mean of.
    pub n: usize,
}

impl Spread {
    /// A number that is not a mean.
    pub fn exact(value: f64) -> Self {
        Self { mean: value, std: None, n: 1 }
    }

    /// Mean and deviation; `None` of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Some(Self { mean, std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()), n })
    }

    /// Whether the means lie further apart than both deviations together: where one is not known nothing is said.
    pub fn is_apart(&self, other: &Self) -> bool {
        let together = self.std.zip(other.std).map(|(own, other)| own + other);
        together.is_some_and(|together| (self.mean - other.mean).abs() > together)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mean_and_sample_deviation() {
        // numpy: np.mean, np.std(ddof=1).
        let spread = Spread::of(&[83.63, 83.66, 83.52, 83.46]).unwrap();
        assert!((spread.mean - 83.5675).abs() < 1e-12 && (spread.std.unwrap() - 0.093_586).abs() < 1e-6);
        assert_eq!(Spread::of(&[49.64]), Some(Spread::exact(49.64)));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn means_are_apart_beyond_both_deviations() {
        let spread = |mean, std| Spread { mean, std, n: 3 };
        assert!(spread(80.0, Some(0.5)).is_apart(&spread(81.1, Some(0.5))));
        assert!(!spread(80.0, Some(0.5)).is_apart(&spread(81.0, Some(0.5))));
        assert!(!Spread::exact(1.0).is_apart(&spread(81.0, Some(0.5))), "a single run says nothing");
    }

    proptest! {
        #[test]
        fn a_shift_moves_the_mean_and_not_the_deviation(
            values in prop::collection::vec(-100.0..100.0_f64, 2..9),
            shift in -100.0..100.0_f64,
        ) {
            let shifted: Vec<f64> = values.iter().map(|value| value + shift).collect();
            let (a, b) = (Spread::of(&values).unwrap(), Spread::of(&shifted).unwrap());
            prop_assert!((b.mean - a.mean - shift).abs() < 1e-9);
            prop_assert!((b.std.unwrap() - a.std.unwrap()).abs() < 1e-9);
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(a.mean >= low - 1e-9 && a.mean <= high + 1e-9);
        }
    }
}
