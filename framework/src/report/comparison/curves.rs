//! The curves: a chart per metric and split, a line per run.

use std::collections::BTreeSet;

use maud::{Markup, PreEscaped, html};

use super::palette;
use super::run::Run;
use super::{data, data::SMOOTHING};
use crate::metrics::smooth;
use crate::report::html::curves::{is_loss, is_noisy, spans_decades};
use crate::report::html::number::{count, figure};
use crate::report::html::plot::{Line, chart};
use crate::report::html::thin::{outline, stretch};
use crate::report::{Point, Split};

/// Points of a line that is drawn without the script.
const STATIC_POINTS: usize = 200;

/// Lines of more runs than this are drawn thinner.
const MANY: usize = 8;

/// A metric of all runs that have it.
pub(super) struct Chart<'a> {
    pub(super) split: Split,
    pub(super) name: &'a str,
    /// Runs by index, with what they measured.
    pub(super) lines: Vec<(usize, Vec<Point>)>,
    pub(super) log_scale: bool,
}

impl Chart<'_> {
    /// Whether its lines are averaged: what is measured on a training batch says little by itself.
    pub(super) fn is_smoothed(&self) -> bool {
        self.split == Split::Train && is_noisy(self.name)
    }
}

/// `None` where no run has measured anything yet.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    let charts = charts(runs);
    if charts.is_empty() {
        return None;
    }
    let of = |split: Split| charts.iter().enumerate().filter(move |(_, chart)| chart.split == split);
    Some(html! {
        (toolbar(runs))
        @for (title, split) in [("Validation", Split::Val), ("Training", Split::Train)] {
            @if of(split).next().is_some() {
                h3.group { (title) }
                div.curves.many[runs.len() > MANY] { @for (index, chart) in of(split) { (drawn(index, chart, runs)) } }
            }
        }
        script #curve-data type="application/json" { (PreEscaped(data::json(runs, &charts))) }
    })
}

fn charts(runs: &[Run]) -> Vec<Chart<'_>> {
    let mut charts = Vec::new();
    for split in [Split::Val, Split::Train] {
        let mut known = BTreeSet::new();
        let names = runs.iter().flat_map(|run| run.metrics.names(split)).filter(|name| known.insert(*name));
        let mut names: Vec<&str> = names.collect();
        names.sort_by_key(|name| rank(split, name));
        for name in names {
            let lines = runs.iter().map(|run| run.metrics.series(split, name)).enumerate();
            let lines: Vec<_> = lines.filter(|(_, series)| !series.is_empty()).collect();
            let log_scale = is_loss(name) && spans_decades(lines.iter().flat_map(|(_, series)| series));
            charts.push(Chart { split, name, lines, log_scale });
        }
    }
    charts
}

/// What was validated for its own sake first, losses before learning rates.
fn rank(split: Split, name: &str) -> u8 {
    match name {
        _ if split == Split::Val => u8::from(is_loss(name)),
        "loss" => 0,
        _ if is_loss(name) => 1,
        _ if name.starts_with("lr") => 2,
        _ => 3,
    }
}

/// The key to the colours, and what the script moves.
fn toolbar(runs: &[Run]) -> Markup {
    html! {
        div.toolbar {
            ul.legend aria-label="Runs" {
                @for (index, run) in runs.iter().enumerate() {
                    li data-run=(index) { (palette::sample(index)) span { (run.label) } }
                }
            }
            form.controls hidden {
                span.buttons { button type="button" name="all" { "All" } button type="button" name="none" { "None" } }
                (choice("x", "Over", &["step", "epoch", "time"]))
                (choice("y", "Scale", &["auto", "linear", "log"]))
                label { "Smoothing " input type="range" name="smoothing" min="0" max="0.99" step="0.01" value=(SMOOTHING); output { (SMOOTHING) } }
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

fn drawn(index: usize, metric: &Chart<'_>, runs: &[Run]) -> Markup {
    let lines: Vec<Line> =
        metric.lines.iter().flat_map(|(run, series)| lines(metric, *run, series)).collect();
    html! {
        figure data-chart=(index) {
            figcaption { h4 { (metric.name.replace('_', " ")) } @if metric.log_scale { small.scale { "log" } } }
            @match chart(&lines, metric.log_scale, &label(metric, runs)) {
                Some(svg) => (PreEscaped(svg)),
                None => p.empty { "no finite value" },
            }
            details { summary { "Values" } (values(metric, runs)) }
        }
    }
}

/// The line of a run, before every value of it where it is averaged.
fn lines(metric: &Chart<'_>, run: usize, series: &[Point]) -> Vec<Line> {
    let values: Vec<f64> = series.iter().map(|point| point.value).collect();
    let line = |values: &[f64], is_faint: bool| {
        let kept = outline(values, stretch(values.len(), STATIC_POINTS)).into_iter();
        let points = kept.map(|i| (series[i].step as f64, values[i])).collect();
        Line { points, color: palette::key(run), is_faint }
    };
    if metric.is_smoothed() {
        vec![line(&values, true), line(&smooth(values.iter().copied(), SMOOTHING), false)]
    } else {
        vec![line(&values, false)]
    }
}

/// What the chart shows, for those who do not see it; the figures are in the table below it.
fn label(metric: &Chart<'_>, runs: &[Run]) -> String {
    let lasts = metric.lines.iter().filter_map(|(run, series)| Some((*run, series.last()?.value)));
    let lasts: Vec<(usize, f64)> = lasts.filter(|(_, value)| value.is_finite()).collect();
    let ends = |(run, value): &(usize, f64)| format!("{} of {}", figure(*value), runs[*run].label);
    let by_value = |a: &&(usize, f64), b: &&(usize, f64)| a.1.total_cmp(&b.1);
    let range = match (lasts.iter().min_by(by_value), lasts.iter().max_by(by_value)) {
        (Some(low), Some(high)) if lasts.len() > 1 => {
            format!("; last values from {} to {}", ends(low), ends(high))
        }
        (Some(only), _) => format!("; last value {}", ends(only)),
        _ => String::new(),
    };
    let kind = match metric.split {
        Split::Train => "training",
        Split::Val => "validation",
    };
    format!("{kind} {} of {} runs{range}", metric.name.replace('_', " "), metric.lines.len())
}

fn values(metric: &Chart<'_>, runs: &[Run]) -> Markup {
    html! {
        div.wide {
            table {
                thead { tr { th scope="col" { "Run" } @for title in ["First", "Last", "Lowest", "Highest", "Steps"] { th.number scope="col" { (title) } } } }
                tbody {
                    @for (run, series) in &metric.lines {
                        @let finite = || series.iter().map(|point| point.value).filter(|value| value.is_finite());
                        tr {
                            th scope="row" { (runs[*run].label) }
                            @for value in [finite().next(), finite().next_back(), finite().reduce(f64::min), finite().reduce(f64::max)] {
                                td.number { (value.map_or_else(|| "–".to_owned(), figure)) }
                            }
                            td.number { (count(series.last().map_or(0, |point| point.step))) }
                        }
                    }
                }
            }
        }
    }
}
