//! Fewer points with the same outline.

/// How many points stand for one another, so that about `most` of `len` are left; 1 where all of them stay.
pub(super) fn stretch(len: usize, most: usize) -> usize {
    match len.div_ceil((most / 2).max(1)) {
        // Two points of every stretch are kept.
        0..=2 => 1,
        stretch => stretch,
    }
}

/// The indices of the lowest and the highest of each stretch of values, in order: all of them for a stretch
/// of 1. What is not finite counts only where nothing else is.
pub(super) fn outline(values: &[f64], stretch: usize) -> Vec<usize> {
    if stretch <= 1 {
        return (0..values.len()).collect();
    }
    let extremes = |start: usize| {
        let finite = || (start..values.len().min(start + stretch)).filter(|&i| values[i].is_finite());
        let low = finite().min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(start);
        let high = finite().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(start);
        [low.min(high), low.max(high)]
    };
    (0..values.len()).step_by(stretch).flat_map(extremes).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_series_stays_as_it_is() {
        assert_eq!(stretch(600, 600), 1);
        assert_eq!(outline(&[1.0, f64::NAN, 2.0], 1), [0, 1, 2]);
    }

    #[test]
    fn what_is_not_finite_gives_way() {
        assert_eq!(
            outline(&[f64::NAN, 3.0, 1.0, f64::INFINITY, f64::NAN, f64::NAN, f64::NAN], 4),
            [1, 2, 4, 4]
        );
    }

    proptest! {
        #[test]
        fn the_extremes_and_the_order_stay(values in prop::collection::vec(-1e3..1e3_f64, 1..500), most in 2..50_usize) {
            let kept = outline(&values, stretch(values.len(), most));
            prop_assert!(kept.len() <= most.max(2) + 2);
            prop_assert!(kept.is_sorted());
            let low = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let left: Vec<_> = kept.iter().map(|&i| values[i]).collect();
            prop_assert_eq!((low(&left), high(&left)), (low(&values), high(&values)));
        }
    }
}
