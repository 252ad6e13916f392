//! Numbers as a person reads them.

use crate::metrics::Spread;

/// Four significant digits; very small and very large ones in scientific notation.
pub(super) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        format!("{value}")
    } else if magnitude != 0.0 && !(1e-3..1e6).contains(&magnitude) {
        format!("{value:.3e}")
    } else if value.fract() == 0.0 {
        format!("{value}")
    } else {
        let whole_digits = magnitude.max(1.0).log10().floor() as usize + 1;
        // Below 1 the leading zeros of the fraction do not count as digits.
        let leading_zeros = if magnitude < 1.0 { (-magnitude.log10()).floor() as usize + 1 } else { 0 };
        format!("{value:.0$}", 4_usize.saturating_sub(whole_digits) + leading_zeros)
    }
}

/// A mean with its deviation to two digits, and itself to as many places: `49.64 ± 0.31`.
pub(super) fn spread(spread: &Spread) -> String {
    match spread.std.filter(|std| std.is_finite() && *std > 0.0) {
        Some(std) => {
            let places = (1.0 - std.log10().floor()).clamp(0.0, 6.0) as usize;
            format!("{:.places$} ± {std:.places$}", spread.mean)
        }
        None if spread.std.is_some() => format!("{} ± 0", figure(spread.mean)),
        None => figure(spread.mean),
    }
}

/// A number that somebody chose: as a [`figure`], but 0.05 is not 0.05000.
pub(super) fn setting(value: f64) -> String {
    let text = figure(value);
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
        None => trimmed(&text).to_owned(),
    }
}

/// Without zeros that say nothing.
fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A label of an axis: as short as it can be.
pub(super) fn tick(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        0.0 => "0".to_owned(),
        _ if magnitude < 1e-3 => format!("{value:.1e}").replace(".0e", "e"),
        _ if magnitude < 1e4 => trimmed(&format!("{value:.4}")).to_owned(),
        _ if magnitude < 1e6 => format!("{}k", trimmed(&format!("{:.1}", value / 1e3))),
        _ => format!("{}M", trimmed(&format!("{:.1}", value / 1e6))),
    }
}

/// Counts with grouped digits: `88 594 176`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            // A narrow space that does not break.
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        let written: Vec<_> =
            [0.412_345, 83.217_4, 0.012_345_6, 1234.56, 1.5e-4, 0.0, 200.0, -0.5, 2.5e9, f64::NAN]
                .into_iter()
                .map(figure)
                .collect();
        assert_eq!(
            written,
            ["0.4123", "83.22", "0.01235", "1235", "1.500e-4", "0", "200", "-0.5000", "2.500e9", "NaN"]
        );
    }

    #[test]
    fn a_mean_has_the_places_of_its_deviation() {
        let written = |mean, std| spread(&Spread { mean, std, n: 3 });
        assert_eq!(written(49.637, Some(0.312)), "49.64 ± 0.31");
        assert_eq!(written(49.637, Some(12.4)), "50 ± 12");
        assert_eq!(written(0.512_34, Some(0.000_21)), "0.51234 ± 0.00021");
        assert_eq!(
            (written(49.637, None), written(2.0, Some(0.0))),
            ("49.64".to_owned(), "2 ± 0".to_owned())
        );
    }

    #[test]
    fn settings_have_the_digits_they_need() {
        let written: Vec<_> = [0.05, 1.0, 1.5e-4, 0.421_875, 100.0].into_iter().map(setting).collect();
        assert_eq!(written, ["0.05", "1", "1.5e-4", "0.4219", "100"]);
    }

    #[test]
    fn ticks_are_short() {
        let written: Vec<_> =
            [0.0, 0.25, 1e-4, 2.5e-5, 500.0, 12_000.0, 1.5e6].into_iter().map(tick).collect();
        assert_eq!(written, ["0", "0.25", "1e-4", "2.5e-5", "500", "12k", "1.5M"]);
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!(
            [count(7), count(1000), count(88_594_176)],
            ["7", "1\u{202f}000", "88\u{202f}594\u{202f}176"]
        );
    }
}
