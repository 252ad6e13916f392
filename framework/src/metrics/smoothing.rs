//! Exponential moving averages of noisy series.

/// An exponential moving average with Adam's bias correction (Kingma and Ba 2015, section 3): the first value
/// is returned as it is instead of being drawn towards zero.
#[derive(Debug, Clone, Copy)]
pub struct Ema {
    decay: f64,
    average: f64,
    /// The weight that the values seen so far have in `average`: `1 - decay^n`.
    weight: f64,
}

impl Ema {
    /// `decay` in `[0, 1)`: 0 follows every value, 0.98 averages over about 50.
    pub fn new(decay: f64) -> Self {
        Self { decay: decay.clamp(0.0, 0.999_999), average: 0.0, weight: 0.0 }
    }

    /// Takes a value and returns the average so far. A value that is not finite is left out.
    pub fn update(&mut self, value: f64) -> f64 {
        if value.is_finite() {
            self.average = self.decay * self.average + (1.0 - self.decay) * value;
            self.weight = self.decay * self.weight + (1.0 - self.decay);
        }
        self.average()
    }

    /// The average so far; not a number before the first finite value.
    pub fn average(&self) -> f64 {
        self.average / self.weight
    }
}

/// The running [`Ema`] of `values`, one result per value.
pub fn smooth(values: impl IntoIterator<Item = f64>, decay: f64) -> Vec<f64> {
    let mut ema = Ema::new(decay);
    values.into_iter().map(|value| ema.update(value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_constant_stays_itself_from_the_first_value() {
        for average in smooth([3.5; 20], 0.9) {
            assert!((average - 3.5).abs() < 1e-12);
        }
    }

    #[test]
    fn no_decay_follows_every_value() {
        assert_eq!(smooth([1.0, -4.0, 2.0], 0.0), [1.0, -4.0, 2.0]);
    }

    #[test]
    fn a_value_that_is_not_finite_is_left_out() {
        assert_eq!(smooth([2.0, f64::NAN, f64::INFINITY], 0.5), [2.0; 3]);
        assert!(Ema::new(0.5).average().is_nan());
    }

    proptest! {
        #[test]
        fn an_average_stays_between_the_extremes(
            values in prop::collection::vec(-1e6..1e6_f64, 1..50),
            decay in 0.0..0.999_f64,
        ) {
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            for average in smooth(values, decay) {
                prop_assert!(average >= low - 1e-6 && average <= high + 1e-6);
            }
        }
    }
}
