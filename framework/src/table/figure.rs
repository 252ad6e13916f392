//! Numbers and means as they stand in a table.

use super::paired::PairedDifference;
use crate::metrics::Spread;
use crate::runs::significant;

/// `49.6 ± 0.3 (3)`.
pub fn text(figure: &Spread, digits: Option<usize>) -> String {
    let Spread { mean, std, n } = *figure;
    match std {
        Some(std) => format!("{} ± {} ({n})", number(mean, digits), number(std, digits)),
        None => number(mean, digits),
    }
}

/// `+0.9 [−0.2, +2.0] (4)`: the mean, its 95 % confidence interval, and the number of seeds.
pub fn paired(difference: &PairedDifference, digits: Option<usize>) -> String {
    let PairedDifference { mean, interval, n } = *difference;
    let interval = interval.map(|ends| ends.map(|end| signed(end, digits)).join(", "));
    let interval = interval.map(|interval| format!(" [{interval}]")).unwrap_or_default();
    format!("{}{interval} ({n})", signed(mean, digits))
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

/// The same with its sign, `+0.3` or `−0.3`.
pub fn signed(value: f64, digits: Option<usize>) -> String {
    let text = number(value, digits);
    match text.strip_prefix('-') {
        Some(size) => format!("−{size}"),
        None => format!("+{text}"),
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

    use super::*;

    #[test]
    fn a_mean_stands_with_its_deviation_and_the_number_of_runs() {
        // The four trials of MAE's FINETUNE.md: mean 83.57; its 0.08 is over n.
        let figure = Spread::of(&[83.63, 83.66, 83.52, 83.46]).unwrap();
        assert_eq!(text(&figure, Some(2)), "83.57 ± 0.09 (4)");
        assert_eq!(text(&Spread::exact(49.64), None), "49.64");
    }

    #[test]
    fn a_paired_difference_stands_with_its_interval_and_the_number_of_seeds() {
        let difference = PairedDifference { mean: 0.9, interval: Some([-0.18, 1.98]), n: 4 };
        assert_eq!(paired(&difference, Some(1)), "+0.9 [−0.2, +2.0] (4)");
        let one = PairedDifference { mean: -0.5, interval: None, n: 1 };
        assert_eq!(paired(&one, Some(1)), "−0.5 (1)");
    }

    #[test]
    fn digits_are_as_many_as_asked_for() {
        assert_eq!(number(88.049, Some(0)), "88");
        assert_eq!(number(0.123_456, None), "0.1235");
        assert_eq!(number(-0.04, Some(1)), "0.0");
        assert_eq!(number(-0.06, Some(1)), "-0.1");
        assert_eq!([0.26, -0.26, -0.04].map(|value| signed(value, Some(1))), ["+0.3", "−0.3", "+0.0"]);
    }

    #[test]
    fn epochs_are_numbers_and_iterations_are_not() {
        assert_eq!(epochs("1600 epochs"), Some(1600.0));
        assert_eq!(epochs("1 epoch"), Some(1.0));
        assert_eq!(epochs("160000 iterations"), None);
    }
}
