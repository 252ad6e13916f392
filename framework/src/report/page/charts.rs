//! What the charts show: metrics of all runs, in order.

use std::collections::BTreeSet;

use super::run::Run;
use super::variants::{SweptKey, Variants};
use crate::report::{Point, Split};

/// A loss that falls by more than this is shown on a logarithmic axis.
const LOG_SCALE_RATIO: f64 = 30.0;

/// All charts with their one legend.
pub(super) struct Curves<'a> {
    /// The ways to put lines together, that of the page at rest first.
    pub(super) groupings: Vec<Grouping<'a>>,
    /// Those of one split after each other.
    pub(super) charts: Vec<Chart<'a>>,
}

/// Which lines have an entry of the legend in common.
#[derive(Debug, PartialEq)]
pub(super) struct Grouping<'a> {
    /// By what they are grouped: `variant`, a key.
    pub(super) name: &'a str,
    /// The entries.
    pub(super) labels: Vec<&'a str>,
    /// The entry of each run; of a single run, that of training and of validation.
    pub(super) of: Vec<usize>,
}

/// A metric of all that have it.
pub(super) struct Chart<'a> {
    name: &'a str,
    /// `None` where the lines are of both.
    pub(super) split: Option<Split>,
    pub(super) lines: Vec<Series>,
    pub(super) log_scale: bool,
}

/// What was measured over the steps of a run.
pub(super) struct Series {
    /// Its entry in the first legend.
    pub(super) entry: usize,
    /// The run; of a single one, training or validation.
    pub(super) run: usize,
    pub(super) points: Vec<Point>,
    /// Whether it is averaged: what is measured on a training batch says little by itself.
    pub(super) smoothed: bool,
}

pub(super) fn title(split: Split) -> &'static str {
    match split {
        Split::Train => "training",
        Split::Val => "validation",
    }
}

impl<'a> Curves<'a> {
    /// A chart per metric.
    pub(super) fn new(runs: &'a [Run], variants: &'a Variants) -> Self {
        if let [run] = runs {
            return Self::of_one(run);
        }
        let of_split = |split: Split| {
            let mut known = BTreeSet::new();
            let names = runs.iter().flat_map(move |run| run.metrics.names(split));
            names.filter(move |name| known.insert(*name)).map(move |name| {
                let lines =
                    runs.iter().enumerate().map(|(at, run)| Series::new(run.entry, at, run, split, name));
                Chart::new(name, Some(split), lines)
            })
        };
        let mut charts: Vec<_> = [Split::Val, Split::Train].into_iter().flat_map(of_split).collect();
        charts.sort_by_key(|chart| (chart.split != Some(Split::Val), chart.rank()));
        Self { groupings: groupings(runs, variants), charts }
    }

    fn of_one(run: &'a Run) -> Self {
        let splits: Vec<Split> = [Split::Train, Split::Val]
            .into_iter()
            .filter(|split| !run.metrics.names(*split).is_empty())
            .collect();
        let mut known = BTreeSet::new();
        let names = [Split::Val, Split::Train].into_iter().flat_map(|split| run.metrics.names(split));
        let mut charts: Vec<_> = names
            .filter(|name| known.insert(*name))
            .map(|name| {
                let lines = splits.iter().enumerate();
                Chart::new(
                    name,
                    None,
                    lines.map(|(entry, split)| Series::new(entry, entry, run, *split, name)),
                )
            })
            .collect();
        charts.sort_by_key(Chart::rank);
        let of = (0..splits.len()).collect();
        Self {
            groupings: vec![Grouping { name: "split", labels: splits.into_iter().map(title).collect(), of }],
            charts,
        }
    }

    /// Whether an entry of some grouping has several lines.
    pub(super) fn have_means(&self) -> bool {
        self.groupings.iter().any(|grouping| grouping.labels.len() < grouping.of.len())
    }

    /// The entries of the page at rest.
    pub(super) fn legend(&self) -> &[&'a str] {
        self.groupings.first().map_or(&[], |grouping| &grouping.labels)
    }
}

/// By variant, by each key that tells variants apart, and every run by itself.
fn groupings<'a>(runs: &'a [Run], variants: &'a Variants) -> Vec<Grouping<'a>> {
    let by_variant = Grouping {
        name: "variant",
        labels: variants.all.iter().map(|variant| variant.label.as_str()).collect(),
        of: runs.iter().map(|run| run.entry).collect(),
    };
    let by_key = |key: &'a SweptKey| {
        let mut labels: Vec<&str> = Vec::new();
        let of = key.values.iter().map(|value| {
            labels.iter().position(|known| known == value).unwrap_or_else(|| {
                labels.push(value);
                labels.len() - 1
            })
        });
        let of = of.collect();
        Grouping { name: &key.name, labels, of }
    };
    let by_run = Grouping {
        name: "run",
        labels: runs.iter().map(|run| run.label.as_str()).collect(),
        of: (0..runs.len()).collect(),
    };
    let keys = variants.keys.iter().map(by_key).chain([by_run]);
    let mut groupings = vec![by_variant];
    for grouping in keys {
        // Another name for the same lines.
        if groupings.iter().all(|known| known.of != grouping.of) {
            groupings.push(grouping);
        }
    }
    groupings
}

impl Series {
    fn new(entry: usize, at: usize, run: &Run, split: Split, name: &str) -> Self {
        let smoothed = split == Split::Train && is_noisy(name);
        Self { entry, run: at, points: run.metrics.series(split, name), smoothed }
    }

    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = f64> {
        self.points.iter().map(|point| point.value)
    }
}

impl<'a> Chart<'a> {
    fn new(name: &'a str, split: Option<Split>, lines: impl Iterator<Item = Series>) -> Self {
        let lines: Vec<_> = lines.filter(|series| !series.points.is_empty()).collect();
        let log_scale = is_loss(name) && spans_decades(lines.iter().flat_map(Series::values));
        Self { name, split, lines, log_scale }
    }

    /// Losses first, learning rates and what else tells of the training last.
    fn rank(&self) -> u8 {
        match self.name {
            "loss" => 0,
            name if is_loss(name) => 1,
            name if name.starts_with("lr") => 3,
            _ if self.lines.iter().all(|series| series.smoothed) => 4,
            _ => 2,
        }
    }

    pub(super) fn is_of_loss(&self) -> bool {
        self.name == "loss"
    }

    pub(super) fn title(&self) -> String {
        self.name.replace('_', " ")
    }
}

fn is_loss(name: &str) -> bool {
    name.ends_with("loss")
}

fn is_noisy(name: &str) -> bool {
    is_loss(name) || name.contains("grad_norm") || name.ends_with("per_second")
}

/// Whether a linear axis would show little but the beginning.
fn spans_decades(values: impl Iterator<Item = f64>) -> bool {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    low > 0.0 && high / low >= LOG_SCALE_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::MetricLog;

    fn run(metrics: MetricLog) -> Run {
        Run { metrics, ..Run::default() }
    }

    #[test]
    fn losses_come_first_and_every_metric_once() {
        let mut log = MetricLog::default();
        for (split, name) in [
            (Split::Train, "lr"),
            (Split::Train, "images_per_second"),
            (Split::Train, "loss"),
            (Split::Val, "accuracy_top1"),
            (Split::Train, "aux.loss"),
            (Split::Val, "loss"),
        ] {
            log.push(1, 0.1, split, name, 1.0, 0.0);
        }
        let runs = [run(log.clone()), run(log)];
        let names = |runs: &[Run]| {
            let variants = Variants::of(runs);
            let charts = Curves::new(runs, &variants).charts;
            charts.iter().map(|chart| chart.name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&runs[..1]), ["loss", "aux.loss", "accuracy_top1", "lr", "images_per_second"]);
        let of_several = ["loss", "accuracy_top1", "loss", "aux.loss", "lr", "images_per_second"];
        assert_eq!(names(&runs), of_several, "validation first");
        assert_eq!(
            Curves::new(&runs[..1], &Variants::default()).charts[0].lines.len(),
            2,
            "training and validation in one chart"
        );
    }

    #[test]
    fn lines_are_grouped_by_variant_by_key_and_not_at_all() {
        let of = |(at, recipe): (usize, serde_json::Value)| Run {
            label: format!("{at}"),
            lineage: recipe,
            ..Run::default()
        };
        let recipe =
            |seed: u64, lr: u64, depth: u64| serde_json::json!({"seed": seed, "lr": lr, "depth": depth});
        let recipes = [recipe(0, 1, 4), recipe(1, 1, 4), recipe(0, 2, 4), recipe(0, 1, 8)];
        let mut runs: Vec<Run> = recipes.into_iter().enumerate().map(of).collect();
        let variants = Variants::of(&runs);
        runs.iter_mut().enumerate().for_each(|(at, run)| run.entry = variants.of_run(at));
        let groupings = groupings(&runs, &variants);
        let of: Vec<_> = groupings.iter().map(|grouping| (grouping.name, grouping.of.clone())).collect();
        let expected = [
            ("variant", vec![0, 0, 1, 2]),
            ("depth", vec![0, 0, 0, 1]),
            ("lr", vec![0, 0, 1, 0]),
            ("run", vec![0, 1, 2, 3]),
        ];
        assert_eq!(of, expected);
        assert_eq!(groupings[1].labels, ["4", "8"]);
    }

    #[test]
    fn a_loss_over_decades_gets_a_log_axis() {
        let mut log = MetricLog::default();
        for step in 0..100_u64 {
            log.push(step, 0.0, Split::Train, "loss", 10.0 * 0.9_f64.powi(step as i32), 0.0);
        }
        let has_log_axis =
            |log: &MetricLog| Curves::new(&[run(log.clone())], &Variants::default()).charts[0].log_scale;
        assert!(has_log_axis(&log));
        log.push(100, 0.0, Split::Train, "loss", -1.0, 0.0);
        assert!(!has_log_axis(&log));
    }
}
