//! The curves: a chart per metric. Of several runs each has a line, and training and validation a chart each;
//! those of a single run are the lines of one chart.

use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::charts::{Chart, Curves, Series, title};
use super::data::{self, SMOOTHING};
use super::mean::mean;
use super::number::{count, figure};
use super::palette;
use super::plot::{Line, chart};
use super::run::Run;
use super::thin::{outline, stretch};
use super::variants::Variants;
use crate::metrics::{Spread, smooth};

/// Points of a line that is drawn without the script.
const STATIC_POINTS: usize = 200;

/// Of more lines than this each is drawn thinner.
const MANY: usize = 8;

/// `None` where no run has measured anything yet.
pub(super) fn section(runs: &[Run], variants: &Variants) -> Option<Markup> {
    let curves = Curves::new(runs, variants);
    let legend = curves.legend();
    let numbered: Vec<_> = curves.charts.iter().enumerate().collect();
    (!numbered.is_empty()).then(|| {
        html! {
            (toolbar(&curves))
            (about(runs, &curves))
            @for group in numbered.chunk_by(|(_, a), (_, b)| a.split == b.split) {
                @if let Some(split) = group[0].1.split { h3.group { (title(split)) } }
                div.curves.many[legend.len() > MANY] {
                    @for (index, chart) in group { (drawn(*index, chart, legend)) }
                }
            }
            script #curve-data type="application/json" { (PreEscaped(data::json(&curves))) }
        }
    })
}

/// The key to the colours, and what the script moves.
fn toolbar(curves: &Curves<'_>) -> Markup {
    let legend = curves.legend();
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
                @if curves.groupings.len() > 1 {
                    label {
                        "Group by "
                        select name="group" {
                            @for (at, grouping) in curves.groupings.iter().enumerate() { option value=(at) { (grouping.name) } }
                        }
                    }
                }
                @if curves.have_means() { (choice("show", "Show", &["mean", "runs"])) }
                (choice("x", "Over", &["step", "epoch", "time"]))
                (choice("y", "Scale", &["auto", "linear", "log"]))
                label {
                    "Smoothing of training "
                    input type="range" name="smoothing" min="0" max="0.99" step="0.01" value=(SMOOTHING);
                    output { (SMOOTHING) }
                }
            }
        }
    }
}

/// What the lines are, said once.
fn about(runs: &[Run], curves: &Curves<'_>) -> Markup {
    let is_smoothed = curves.charts.iter().flat_map(|chart| &chart.lines).any(|series| series.smoothed);
    let has_loss = curves.charts.iter().any(Chart::is_of_loss);
    html! {
        @if has_loss {
            p.note {
                b { "loss" } " is the weighted sum of the losses of the heads for an image. In training it is the mean over the images of "
                (steps(runs)) ", as they were augmented and by the weights of each step; in validation it is the mean over all images of the set, "
                "as the evaluator measures it. So are the other figures."
            }
        }
        @if curves.have_means() {
            p.note {
                "Of several runs of an entry the line is the mean over the steps that all of them have, and the band one sample standard deviation to both sides."
            }
        }
        @if is_smoothed {
            p.note {
                "Bold lines of what is measured on training batches are an exponential moving average without bias at the start, in which the average before "
                "has the weight " span.smoothing { (SMOOTHING) } "; faint behind them are the values themselves."
            }
        }
    }
}

/// Over how many steps training figures are averaged.
fn steps(runs: &[Run]) -> Markup {
    let every = |run: &Run| run.recipe.pointer("/train/log_every").and_then(Value::as_u64);
    let first =
        runs.first().and_then(every).filter(|first| runs.iter().all(|run| every(run) == Some(*first)));
    match first {
        Some(1) => html! { "a step" },
        Some(steps) => html! { (count(steps)) " steps" },
        None => html! { "the steps since the value before" },
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
    let lines = lines(metric);
    html! {
        figure data-chart=(index) {
            figcaption {
                @if metric.split.is_some() { h4 { (metric.title()) } } @else { h3 { (metric.title()) } }
                @if metric.split.is_none() {
                    @for series in &metric.lines {
                        span.last { (palette::sample(series.entry)) (series.values().next_back().map_or_else(String::new, figure)) }
                    }
                }
                @if metric.lines.iter().any(|series| series.smoothed) { small.smoothed { "smoothed" } }
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

/// The lines of a chart: of several runs of one entry their mean, and a band of the standard deviation to both sides.
pub(super) fn lines(metric: &Chart<'_>) -> Vec<Line> {
    let mut entries: Vec<usize> = metric.lines.iter().map(|series| series.entry).collect();
    entries.sort_unstable();
    entries.dedup();
    let of_entry = |entry: usize| {
        let series: Vec<&Series> = metric.lines.iter().filter(|series| series.entry == entry).collect();
        let mean = if series.len() > 1 { mean(&series) } else { Vec::new() };
        if mean.is_empty() {
            return series.into_iter().flat_map(of_series).collect();
        }
        let band = |(step, spread): &(u64, Spread)| {
            let by = spread.std.unwrap_or(0.0);
            (*step as f64, spread.mean - by, spread.mean + by)
        };
        let points = mean.iter().map(|(step, spread)| (*step as f64, spread.mean)).collect();
        vec![Line { points, band: mean.iter().map(band).collect(), ..Line::new(palette::key(entry)) }]
    };
    entries.into_iter().flat_map(of_entry).collect()
}

/// A line, before every value of it where it is averaged.
fn of_series(series: &Series) -> Vec<Line> {
    let values: Vec<f64> = series.values().collect();
    let line = |values: &[f64], is_faint: bool| {
        let kept = outline(values, stretch(values.len(), STATIC_POINTS)).into_iter();
        let points = kept.map(|i| (series.points[i].step as f64, values[i])).collect();
        Line { points, is_faint, ..Line::new(palette::key(series.entry)) }
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
    use crate::report::{MetricLog, Split};

    fn run(metrics: MetricLog) -> Run {
        Run { metrics, ..Run::default() }
    }

    #[test]
    fn what_a_loss_is_and_how_it_is_smoothed_is_said_once() {
        let page = |log_every: serde_json::Value| {
            let mut log = MetricLog::default();
            log.push(1, 0.0, Split::Train, "loss", 1.0, 0.0);
            let recipe = serde_json::json!({"train": {"log_every": log_every}});
            section(&[Run { metrics: log, recipe, ..Run::default() }], &Variants::default())
                .map(Markup::into_string)
                .unwrap_or_default()
        };
        let ten = page(10.into());
        assert_eq!(ten.matches("the mean over the images of 10 steps").count(), 1, "{ten}");
        assert_eq!(ten.matches("has the weight <span class=\"smoothing\">0.6</span>").count(), 1);
        assert!(ten.contains("<small class=\"smoothed\">smoothed</small>"));
        assert!(page(1.into()).contains("images of a step,"));
        assert!(page(serde_json::Value::Null).contains("images of the steps since the value before,"));
    }

    #[test]
    fn a_label_tells_where_the_lines_end() {
        let mut log = MetricLog::default();
        for (step, split, value) in [(1, Split::Train, 2.0), (9, Split::Train, 0.5), (9, Split::Val, 0.75)] {
            log.push(step, 0.0, split, "loss", value, 0.0);
        }
        let runs = [run(log)];
        let variants = Variants::default();
        let curves = Curves::new(&runs, &variants);
        assert_eq!(
            label(&curves.charts[0], curves.legend()),
            "loss over steps; last values from 0.5000 of training to 0.7500 of validation"
        );
    }
}
