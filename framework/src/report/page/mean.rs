//! The mean of several curves, and how far they lie apart.

use super::charts::Series;
use super::data::SMOOTHING;
use crate::metrics::{Spread, smooth};

/// Mean and spread at each step at which all of some series have a finite value; empty if there is none.
pub(super) fn mean(series: &[&Series]) -> Vec<(u64, Spread)> {
    let Some((first, others)) = series.split_first() else { return Vec::new() };
    let others: Vec<_> = others.iter().map(|series| points(series)).collect();
    let at = |(step, value): (u64, f64)| {
        let mut values = vec![value];
        for points in &others {
            let at = points.binary_search_by_key(&step, |point| point.0).ok()?;
            values.push(points[at].1);
        }
        let is_finite = values.iter().all(|value| value.is_finite());
        Some((step, Spread::of(&values).filter(|_| is_finite)?))
    };
    points(first).into_iter().filter_map(at).collect()
}

/// Steps and values, averaged over time where the series is.
fn points(series: &Series) -> Vec<(u64, f64)> {
    let values: Vec<f64> = series.values().collect();
    let values = if series.smoothed { smooth(values, SMOOTHING) } else { values };
    series.points.iter().map(|point| point.step).zip(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Point;

    fn series(points: &[(u64, f64)], smoothed: bool) -> Series {
        let points = points.iter().map(|&(step, value)| Point { step, epoch: 0.0, seconds: 0.0, value });
        Series { entry: 0, run: 0, points: points.collect(), smoothed }
    }

    #[test]
    fn the_mean_is_over_the_steps_that_all_have() {
        let a = series(&[(1, 1.0), (2, 3.0), (4, 5.0), (5, 1.0)], false);
        let b = series(&[(2, 5.0), (3, 9.0), (4, f64::NAN), (5, 3.0)], false);
        let found = mean(&[&a, &b]);
        let means: Vec<_> = found.iter().map(|(step, spread)| (*step, spread.mean)).collect();
        assert_eq!(means, [(2, 4.0), (5, 2.0)]);
        assert!((found[0].1.std.unwrap_or(0.0) - 2.0_f64.sqrt()).abs() < 1e-12);
        assert!(mean(&[&a, &series(&[(9, 1.0)], false)]).is_empty());
    }

    #[test]
    fn what_is_averaged_over_time_is_so_before() {
        let a = series(&[(1, 1.0), (2, 3.0)], true);
        let smoothed = smooth([1.0, 3.0], SMOOTHING);
        assert_eq!(mean(&[&a, &a])[1].1.mean, smoothed[1]);
    }
}
