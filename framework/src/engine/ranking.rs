//! Evaluations, from the best on.

use crate::report::{MetricLog, Split};

/// The steps of the evaluations of a metric, from the best on; of equal ones the first comes first, and what is not finite
/// has no place.
pub fn ranking(metrics: &MetricLog, metric: &str, more_is_better: bool) -> Vec<u64> {
    let mut points = metrics.series(Split::Val, metric);
    points.retain(|point| point.value.is_finite());
    points.sort_by(|a, b| {
        let order = a.value.total_cmp(&b.value);
        if more_is_better { order.reverse() } else { order }
    });
    points.into_iter().map(|point| point.step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_comes_first_and_of_equal_ones_the_first() {
        let mut metrics = MetricLog::default();
        for (step, value) in [(1, 0.5), (2, f64::NAN), (3, 0.7), (4, 0.5), (5, f64::INFINITY), (6, 0.1)] {
            metrics.push(step, 0.0, Split::Val, "top1", value, 0.0);
            metrics.push(step, 0.0, Split::Train, "top1", 1.0 - value, 0.0);
        }
        assert_eq!(ranking(&metrics, "top1", true), [3, 1, 4, 6]);
        assert_eq!(ranking(&metrics, "top1", false), [6, 1, 4, 3]);
        assert!(ranking(&metrics, "loss", false).is_empty());
    }
}
