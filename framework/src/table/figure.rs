//! Means and standard deviations over runs.

use polars::prelude::*;

use crate::runs::significant;

/// A number, or the mean of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub mean: f64,
    /// The sample standard deviation (over n - 1); of one value there is none.
    pub std: Option<f64>,
    /// How many runs it is the mean of.
    pub n: usize,
}

impl Figure {
    /// A number that is not a mean.
    pub fn exact(value: f64) -> Self {
        Self { mean: value, std: None, n: 1 }
    }

    /// Mean and deviation; `None` of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let column = Float64Chunked::from_slice("".into(), values);
        let std = if values.len() > 1 { column.std(1) } else { None };
        Some(Self { mean: column.mean()?, std, n: values.len() })
    }

    /// `49.6 ± 0.3 (3)`.
    pub fn text(&self, digits: Option<usize>) -> String {
        match self.std {
            Some(std) => {
                format!("{} ± {} ({})", number(self.mean, digits), number(std, digits), self.n)
            }
            None => number(self.mean, digits),
        }
    }
}

/// A number with so many digits behind the point, or four significant ones.
pub fn number(value: f64, digits: Option<usize>) -> String {
    let text = match digits {
        Some(digits) => format!("{value:.digits$}"),
        None => significant(value, 4),
    };
    // Nothing is as good as nothing from below.
    match text.strip_prefix('-') {
        Some(size) if size.chars().all(|letter| matches!(letter, '0' | '.')) => size.to_owned(),
        _ => text,
    }
}

/// The number in `100 epochs`.
pub fn epochs(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    matches!(unit, "epoch" | "epochs").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mean_and_sample_deviation() {
        // The four trials of MAE's FINETUNE.md: mean 83.57; its 0.08 is over n.
        let figure = Figure::of(&[83.63, 83.66, 83.52, 83.46]).unwrap();
        assert_eq!(figure.text(Some(2)), "83.57 ± 0.09 (4)");
        assert_eq!(Figure::of(&[49.64]).unwrap().text(None), "49.64");
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn digits_are_as_many_as_asked_for() {
        assert_eq!(number(88.049, Some(0)), "88");
        assert_eq!(number(0.123_456, None), "0.1235");
        assert_eq!(number(-0.04, Some(1)), "0.0");
        assert_eq!(number(-0.06, Some(1)), "-0.1");
    }

    #[test]
    fn epochs_are_numbers_and_iterations_are_not() {
        assert_eq!(epochs("1600 epochs"), Some(1600.0));
        assert_eq!(epochs("1 epoch"), Some(1.0));
        assert_eq!(epochs("160000 iterations"), None);
    }

    proptest! {
        #[test]
        fn a_shift_moves_the_mean_and_not_the_deviation(
            values in prop::collection::vec(-100.0..100.0_f64, 2..9),
            shift in -100.0..100.0_f64,
        ) {
            let shifted: Vec<f64> = values.iter().map(|value| value + shift).collect();
            let (a, b) = (Figure::of(&values).unwrap(), Figure::of(&shifted).unwrap());
            prop_assert!((b.mean - a.mean - shift).abs() < 1e-9);
            prop_assert!((b.std.unwrap() - a.std.unwrap()).abs() < 1e-9);
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(a.mean >= low - 1e-9 && a.mean <= high + 1e-9);
        }
    }
}
