//! The curves for the script, as JSON: few enough points to be drawn while a slider moves.

use std::collections::HashMap;

use serde::Serialize;

use super::charts::{Curves, Series};
use super::thin::{outline, stretch};
use crate::report::Point;

/// Weight of the earlier average in the next one, at first: that of `TensorBoard`.
pub(super) const SMOOTHING: f64 = 0.6;
/// Points of the whole page. A point takes about 20 bytes.
const POINTS: usize = 40_000;
/// What a line gets of them at least, and at most.
const LINE: (usize, usize) = (40, 400);

#[derive(Serialize)]
struct Data<'a> {
    groupings: Vec<GroupingData<'a>>,
    /// Epochs per step of each run.
    paces: Vec<f64>,
    axes: Vec<Axis>,
    charts: Vec<ChartData>,
}

#[derive(Serialize)]
struct GroupingData<'a> {
    labels: &'a [&'a str],
    /// The entry of each run.
    of: &'a [usize],
}

/// Where points lie; what was measured together shares one.
#[derive(Serialize)]
struct Axis {
    steps: Vec<u64>,
    seconds: Vec<f64>,
}

#[derive(Serialize)]
struct ChartData {
    log: bool,
    lines: Vec<LineData>,
}

#[derive(Serialize)]
struct LineData {
    run: usize,
    smoothed: bool,
    axis: usize,
    values: Vec<Option<f64>>,
    /// How many values two points stand for; 1 where none was left out.
    stretch: usize,
    /// The mean of each stretch: the average is taken over these, not over extremes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    means: Vec<Option<f64>>,
}

/// The charts, to stand in a `script` element.
pub(super) fn json(Curves { groupings, charts }: &Curves<'_>) -> String {
    let lines = charts.iter().map(|chart| chart.lines.len()).sum::<usize>().max(1);
    let most = (POINTS / lines).clamp(LINE.0, LINE.1);
    let mut axes = Axes::default();
    let charts = charts.iter().map(|chart| ChartData {
        log: chart.log_scale,
        lines: chart.lines.iter().map(|series| line(series, most, &mut axes)).collect(),
    });
    let charts = charts.collect();
    let runs = groupings.first().map_or(0, |grouping| grouping.of.len());
    let paces = (0..runs).map(|run| axes.pace(run)).collect();
    let groupings =
        groupings.iter().map(|grouping| GroupingData { labels: &grouping.labels, of: &grouping.of });
    let data = Data { groupings: groupings.collect(), paces, charts, axes: axes.axes };
    // A tree of numbers and strings always serialises. What follows a `<` could end the element.
    serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c")
}

fn line(series: &Series, most: usize, axes: &mut Axes) -> LineData {
    let Series { run, points, smoothed, .. } = series;
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let stretch = stretch(values.len(), most);
    let kept = outline(&values, stretch);
    let means = |stretch: &[f64]| short(stretch.iter().sum::<f64>() / stretch.len() as f64);
    LineData {
        run: *run,
        smoothed: *smoothed,
        axis: axes.of(*run, kept.iter().map(|&i| &points[i])),
        values: kept.iter().map(|&i| short(values[i])).collect(),
        stretch,
        means: if stretch > 1 { values.chunks(stretch).map(means).collect() } else { Vec::new() },
    }
}

/// Five digits; a chart shows no more. `None` for what JSON cannot hold.
fn short(value: f64) -> Option<f64> {
    format!("{value:.4e}").parse().ok().filter(|value: &f64| value.is_finite())
}

#[derive(Default)]
struct Axes {
    axes: Vec<Axis>,
    known: HashMap<(usize, Vec<u64>), usize>,
    /// Epochs per step, by run.
    paces: HashMap<usize, f64>,
}

impl Axes {
    /// The axis with these points, added if there is none.
    fn of<'a>(&mut self, run: usize, points: impl Iterator<Item = &'a Point> + Clone) -> usize {
        if let Some(last) = points.clone().last().filter(|last| last.step > 0) {
            self.paces.insert(run, last.epoch / last.step as f64);
        }
        let steps: Vec<u64> = points.clone().map(|point| point.step).collect();
        *self.known.entry((run, steps.clone())).or_insert_with(|| {
            let seconds = points.map(|point| short(point.seconds).unwrap_or(0.0)).collect();
            self.axes.push(Axis { steps, seconds });
            self.axes.len() - 1
        })
    }

    fn pace(&self, run: usize) -> f64 {
        self.paces.get(&run).copied().unwrap_or(0.0)
    }
}
