//! The curves: a chart per metric. Of several runs each has a line, and training and validation a chart each;
//! those of a single run are the lines of one chart.

use std::collections::BTreeSet;

use maud::{Markup, PreEscaped, html};

use super::number::{count, figure};
use super::palette;
use super::plot::{Line, chart};
use super::run::Run;
use super::thin::{outline, stretch};
use super::{data, data::SMOOTHING};
use crate::metrics::smooth;
use crate::report::{Point, Split};

/// Points of a line that is drawn without the script.
const STATIC_POINTS: usize = 200;

/// Of more lines than this each is drawn thinner.
const MANY: usize = 8;

/// A loss that falls by more than this is shown on a logarithmic axis.
const LOG_SCALE_RATIO: f64 = 30.0;

/// All charts with their one legend.
pub(super) struct Curves<'a> {
    /// The runs; training and validation of a single one.
    pub(super) legend: Vec<&'a str>,
    /// Those of one split after each other.
    pub(super) charts: Vec<Chart<'a>>,
}

/// A metric of all that have it.
pub(super) struct Chart<'a> {
    name: &'a str,
    /// `None` where the lines are of both.
    split: Option<Split>,
    pub(super) lines: Vec<Series>,
    pub(super) log_scale: bool,
}

/// What was measured over the steps of a run.
pub(super) struct Series {
    /// Its entry in the legend.
    pub(super) entry: usize,
    pub(super) points: Vec<Point>,
    /// Whether it is averaged: what is measured on a training batch says little by itself.
    pub(super) smoothed: bool,
}

/// `None` where no run has measured anything yet.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    let curves = Curves::new(runs);
    let numbered: Vec<_> = curves.charts.iter().enumerate().collect();
    (!numbered.is_empty()).then(|| {
        html! {
            (toolbar(&curves.legend))
            @for group in numbered.chunk_by(|(_, a), (_, b)| a.split == b.split) {
                @if let Some(split) = group[0].1.split { h3.group { (title(split)) } }
                div.curves.many[curves.legend.len() > MANY] {
                    @for (index, chart) in group { (drawn(*index, chart, &curves.legend)) }
                }
            }
            script #curve-data type="application/json" { (PreEscaped(data::json(&curves))) }
        }
    })
}

fn title(split: Split) -> &'static str {
    match split {
        Split::Train => "training",
        Split::Val => "validation",
    }
}

impl<'a> Curves<'a> {
    fn new(runs: &'a [Run]) -> Self {
        if let [run] = runs {
            return Self::of_one(run);
        }
        let of_split = |split: Split| {
            let mut known = BTreeSet::new();
            let names = runs.iter().flat_map(move |run| run.metrics.names(split));
            names.filter(move |name| known.insert(*name)).map(move |name| {
                let lines = runs.iter().enumerate().map(|(entry, run)| Series::new(entry, run, split, name));
                Chart::new(name, Some(split), lines)
            })
        };
        let mut charts: Vec<_> = [Split::Val, Split::Train].into_iter().flat_map(of_split).collect();
        charts.sort_by_key(|chart| (chart.split != Some(Split::Val), chart.rank()));
        Self { legend: runs.iter().map(|run| run.label.as_str()).collect(), charts }
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
                Chart::new(name, None, lines.map(|(entry, split)| Series::new(entry, run, *split, name)))
            })
            .collect();
        charts.sort_by_key(Chart::rank);
        Self { legend: splits.into_iter().map(title).collect(), charts }
    }
}

impl Series {
    fn new(entry: usize, run: &Run, split: Split, name: &str) -> Self {
        let smoothed = split == Split::Train && is_noisy(name);
        Self { entry, points: run.metrics.series(split, name), smoothed }
    }

    fn values(&self) -> impl DoubleEndedIterator<Item = f64> {
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

    fn title(&self) -> String {
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

/// The key to the colours, and what the script moves.
fn toolbar(legend: &[&str]) -> Markup {
    html! {
        div.toolbar {
            ul.legend aria-label="Lines" {
                @for (entry, label) in legend.iter().enumerate() {
                    li data-entry=(entry) { (palette::sample(entry)) span { (label) } }
                }
            }
            form.controls hidden {
                @if legend.len() > 2 {
                    span.buttons {
                        button type="button" name="all" { "All" }
                        button type="button" name="none" { "None" }
                    }
                }
                (choice("x", "Over", &["step", "epoch", "time"]))
                (choice("y", "Scale", &["auto", "linear", "log"]))
                label {
                    "Smoothing "
                    input type="range" name="smoothing" min="0" max="0.99" step="0.01" value=(SMOOTHING);
                    output { (SMOOTHING) }
                }
            }
        }
    }
}

fn choice(name: &str, title: &str, options: &[&str]) -> Markup {
    html! {
        fieldset {
            legend { (title) }
            @for (i, option) in options.iter().enumerate() {
                label { input type="radio" name=(name) value=(option) checked[i == 0]; span { (option) } }
            }
        }
    }
}

fn drawn(index: usize, metric: &Chart<'_>, legend: &[&str]) -> Markup {
    let lines: Vec<Line> = metric.lines.iter().flat_map(lines).collect();
    html! {
        figure data-chart=(index) {
            figcaption {
                @if metric.split.is_some() { h4 { (metric.title()) } } @else { h3 { (metric.title()) } }
                @if metric.split.is_none() {
                    @for series in &metric.lines {
                        span.last { (palette::sample(series.entry)) (series.values().next_back().map_or_else(String::new, figure)) }
                    }
                }
                @if metric.log_scale { small.scale { "log" } }
            }
            @match chart(&lines, metric.log_scale, &label(metric, legend)) {
                Some(svg) => (PreEscaped(svg)),
                None => p.empty { "no finite value" },
            }
            details { summary { "Values" } (values(metric, legend)) }
        }
    }
}

/// A line, before every value of it where it is averaged.
fn lines(series: &Series) -> Vec<Line> {
    let values: Vec<f64> = series.values().collect();
    let line = |values: &[f64], is_faint: bool| {
        let kept = outline(values, stretch(values.len(), STATIC_POINTS)).into_iter();
        let points = kept.map(|i| (series.points[i].step as f64, values[i])).collect();
        Line { points, color: palette::key(series.entry), is_faint }
    };
    if series.smoothed {
        vec![line(&values, true), line(&smooth(values.iter().copied(), SMOOTHING), false)]
    } else {
        vec![line(&values, false)]
    }
}

/// What the chart shows, for those who do not see it; the figures are in the table below it.
fn label(metric: &Chart<'_>, legend: &[&str]) -> String {
    let lasts = metric.lines.iter().filter_map(|series| Some((series.entry, series.values().next_back()?)));
    let lasts: Vec<(usize, f64)> = lasts.filter(|(_, value)| value.is_finite()).collect();
    let ends = |(entry, value): &(usize, f64)| format!("{} of {}", figure(*value), legend[*entry]);
    let by_value = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1);
    let range = match (lasts.iter().min_by(by_value), lasts.iter().max_by(by_value)) {
        (Some(low), Some(high)) if lasts.len() > 1 => {
            format!("; last values from {} to {}", ends(low), ends(high))
        }
        (Some(only), _) => format!("; last value {}", ends(only)),
        _ => String::new(),
    };
    let name = metric.title();
    match metric.split {
        Some(split) => format!("{} {name} of {} runs{range}", title(split), metric.lines.len()),
        None => format!("{name} over steps{range}"),
    }
}

fn values(metric: &Chart<'_>, legend: &[&str]) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { @if metric.split.is_some() { "Run" } @else { "Split" } }
                        @for title in ["First", "Last", "Lowest", "Highest", "Steps"] { th.number scope="col" { (title) } }
                    }
                }
                tbody {
                    @for series in &metric.lines {
                        @let finite = || series.values().filter(|value| value.is_finite());
                        tr {
                            th scope="row" { (legend[series.entry]) }
                            @for value in [finite().next(), finite().next_back(), finite().reduce(f64::min), finite().reduce(f64::max)] {
                                td.number { (value.map_or_else(|| "–".to_owned(), figure)) }
                            }
                            td.number { (count(series.points.last().map_or(0, |point| point.step))) }
                        }
                    }
                }
            }
        }
    }
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
        let names = |runs| {
            let charts = Curves::new(runs).charts;
            charts.iter().map(|chart| chart.name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&runs[..1]), ["loss", "aux.loss", "accuracy_top1", "lr", "images_per_second"]);
        let of_several = ["loss", "accuracy_top1", "loss", "aux.loss", "lr", "images_per_second"];
        assert_eq!(names(&runs), of_several, "validation first");
        assert_eq!(Curves::new(&runs[..1]).charts[0].lines.len(), 2, "training and validation in one chart");
    }

    #[test]
    fn a_loss_over_decades_gets_a_log_axis() {
        let mut log = MetricLog::default();
        for step in 0..100_u64 {
            log.push(step, 0.0, Split::Train, "loss", 10.0 * 0.9_f64.powi(step as i32), 0.0);
        }
        let has_log_axis = |log: &MetricLog| Curves::new(&[run(log.clone())]).charts[0].log_scale;
        assert!(has_log_axis(&log));
        log.push(100, 0.0, Split::Train, "loss", -1.0, 0.0);
        assert!(!has_log_axis(&log));
    }

    #[test]
    fn a_label_tells_where_the_lines_end() {
        let mut log = MetricLog::default();
        for (step, split, value) in [(1, Split::Train, 2.0), (9, Split::Train, 0.5), (9, Split::Val, 0.75)] {
            log.push(step, 0.0, split, "loss", value, 0.0);
        }
        let runs = [run(log)];
        let Curves { legend, charts } = Curves::new(&runs);
        assert_eq!(
            label(&charts[0], &legend),
            "loss over steps; last values from 0.5000 of training to 0.7500 of validation"
        );
    }
}
