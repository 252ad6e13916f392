//! The curves: a chart per metric. Of several runs each has a line, and training and validation a chart each;
//! those of a single run are the lines of one chart.

use maud::{Markup, PreEscaped, html};

use super::charts::{Chart, Curves, Series, title};
use super::data::{self, SMOOTHING};
use super::number::{count, figure};
use super::palette;
use super::plot::{Line, chart};
use super::run::Run;
use super::thin::{outline, stretch};
use crate::metrics::smooth;

/// Points of a line that is drawn without the script.
const STATIC_POINTS: usize = 200;

/// Of more lines than this each is drawn thinner.
const MANY: usize = 8;

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
    use crate::report::{MetricLog, Split};

    fn run(metrics: MetricLog) -> Run {
        Run { metrics, ..Run::default() }
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
