//! The curves: a chart per metric, training and validation in one.

use maud::{Markup, PreEscaped, html};

use super::number::figure;
use super::plot::{Line, RGBColor, chart};
use crate::metrics::smooth;
use crate::report::{MetricLog, Point, Split};

const TRAIN: RGBColor = RGBColor(0x2F, 0x6D, 0xB5);
const VAL: RGBColor = RGBColor(0xC8, 0x5A, 0x17);
/// With fewer values than this their average says no more than they do.
const SMOOTHED_FROM: usize = 60;
/// A loss that falls by more than this is shown on a logarithmic axis.
const LOG_SCALE_RATIO: f64 = 30.0;

pub(in crate::report) fn section(log: &MetricLog) -> Markup {
    html! {
        div.curves {
            @for name in ordered(log) { (curve(log, name)) }
        }
    }
}

/// Losses first, then what was validated, then how it was trained.
fn ordered(log: &MetricLog) -> Vec<&str> {
    let validated = log.names(Split::Val);
    let mut names = validated.clone();
    names.extend(log.names(Split::Train).into_iter().filter(|name| !validated.contains(name)));
    names.sort_by_key(|name| match *name {
        "loss" => 0,
        name if is_loss(name) => 1,
        name if validated.contains(&name) => 2,
        name if name.starts_with("lr") => 3,
        _ => 4,
    });
    names
}

pub(in crate::report) fn is_loss(name: &str) -> bool {
    name.ends_with("loss")
}

/// Whether training measures it on a batch, which says little by itself.
pub(in crate::report) fn is_noisy(name: &str) -> bool {
    is_loss(name) || name.contains("grad_norm") || name.ends_with("per_second")
}

fn curve(log: &MetricLog, name: &str) -> Markup {
    let (train, val) = (log.series(Split::Train, name), log.series(Split::Val, name));
    let mut lines = Vec::new();
    let mut latest = train.last().map(|point| point.value);
    if is_noisy(name) && train.len() >= SMOOTHED_FROM {
        let decay = 1.0 - 1.0 / (train.len() as f64 / 100.0).max(8.0);
        let averages = smooth(train.iter().map(|point| point.value), decay);
        latest = averages.last().copied();
        lines.push(Line { points: xy(&train), color: TRAIN, is_faint: true });
        let points =
            train.iter().zip(averages).map(|(point, average)| (point.step as f64, average)).collect();
        lines.push(Line { points, color: TRAIN, is_faint: false });
    } else if !train.is_empty() {
        lines.push(Line { points: xy(&train), color: TRAIN, is_faint: false });
    }
    if !val.is_empty() {
        lines.push(Line { points: xy(&val), color: VAL, is_faint: false });
    }
    let log_scale = is_loss(name) && spans_decades(train.iter().chain(&val));
    let label = label(name, &train, &val);
    html! {
        figure {
            figcaption {
                h3 { (name.replace('_', " ")) @if log_scale { " " small { "log" } } }
                @if let Some(latest) = latest { span.key.train { "train " (figure(latest)) } }
                @if let Some(last) = val.last() { span.key.val { "val " (figure(last.value)) } }
            }
            @match chart(&lines, log_scale, &label) {
                Some(svg) => (PreEscaped(svg)),
                None => p.empty { "no finite value" },
            }
        }
    }
}

pub(in crate::report) fn xy(series: &[Point]) -> Vec<(f64, f64)> {
    series.iter().map(|point| (point.step as f64, point.value)).collect()
}

/// Whether a linear axis would show little but the beginning.
pub(in crate::report) fn spans_decades<'a>(points: impl Iterator<Item = &'a Point>) -> bool {
    let finite = points.map(|point| point.value).filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    low > 0.0 && high / low >= LOG_SCALE_RATIO
}

/// What the chart shows, for those who do not see it.
fn label(name: &str, train: &[Point], val: &[Point]) -> String {
    let course = |split: &str, series: &[Point]| match series {
        [first, .., last] => format!(
            "; {split} from {} at step {} to {} at step {}",
            figure(first.value),
            first.step,
            figure(last.value),
            last.step
        ),
        [only] => format!("; {split} {} at step {}", figure(only.value), only.step),
        [] => String::new(),
    };
    format!("{name} over steps{}{}", course("train", train), course("val", val))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(ordered(&log), ["loss", "aux.loss", "accuracy_top1", "lr", "images_per_second"]);
    }

    #[test]
    fn a_loss_over_decades_gets_a_log_axis() {
        let mut log = MetricLog::default();
        for step in 0..100_u64 {
            log.push(step, 0.0, Split::Train, "loss", 10.0 * 0.9_f64.powi(step as i32), 0.0);
        }
        assert!(section(&log).into_string().contains("<small>log</small>"));
        log.push(100, 0.0, Split::Train, "loss", -1.0, 0.0);
        assert!(!section(&log).into_string().contains("<small>log</small>"));
    }

    #[test]
    fn a_label_tells_the_course() {
        let point = |step, value| Point { step, epoch: 0.0, seconds: 0.0, value };
        assert_eq!(
            label("loss", &[point(1, 2.0), point(9, 0.5)], &[point(9, 0.75)]),
            "loss over steps; train from 2 at step 1 to 0.5000 at step 9; val 0.7500 at step 9"
        );
    }
}
