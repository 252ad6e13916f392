//! What was validated over the values of each key that was swept.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};

use super::palette;
use super::plot::{Line, chart_over};
use super::run::Run;
use super::summary::validated;
use super::variants::{SweptKey, Variants};
use crate::metrics::Spread;

/// Of more combinations of the other keys there is one line for all of them.
const MOST_LINES: usize = 6;
/// From so many variants on a chart says more than a table.
const FEWEST_VARIANTS: usize = 3;

/// `None` where nothing was swept.
pub(super) fn section(runs: &[Run], variants: &Variants) -> Option<Markup> {
    let metrics = swept_metrics(runs, variants);
    let (first, others) = metrics.split_first()?;
    let charts = |metric: &str| {
        html! {
            div.curves { @for at in 0..variants.keys.len() { @if let Some(figure) = figure(runs, variants, at, metric) { (figure) } } }
        }
    };
    Some(html! {
        p.note { "The last evaluation of every run over each key that tells variants apart: means, and the standard deviation where there are several runs." }
        (charts(first))
        @if !others.is_empty() {
            details { summary { "Other metrics" } @for metric in others { (charts(metric)) } }
        }
    })
}

/// What was validated in a sweep, the metric that decides first; nothing where keys were not swept.
pub(super) fn swept_metrics<'a>(runs: &'a [Run], variants: &Variants) -> Vec<&'a str> {
    let is_sweep = variants.all.len() >= FEWEST_VARIANTS || variants.are_repeated();
    if !is_sweep || variants.keys.is_empty() {
        return Vec::new();
    }
    let mut metrics = validated(runs);
    let deciding = runs.iter().find_map(Run::deciding).map(|(name, _)| name);
    metrics.sort_by_key(|name| Some(*name) != deciding);
    metrics
}

fn figure(runs: &[Run], variants: &Variants, at: usize, metric: &str) -> Option<Markup> {
    let over = OverKey::new(runs, variants, at, metric)?;
    let title = format!("{} over {}", metric.replace('_', " "), variants.keys[at].name);
    Some(html! {
        figure {
            figcaption {
                h3 { (title) }
                @if over.lines.len() > 1 {
                    @for (entry, name) in over.names().enumerate() { span.last { (palette::sample(entry)) (name) } }
                }
            }
            @match over.svg(&title) {
                Some(svg) => (PreEscaped(svg)),
                None => p.empty { "no finite value" },
            }
        }
    })
}

/// A metric over a key.
pub(super) struct OverKey<'a> {
    /// What stands along the axis where values are no numbers, or lie decades apart.
    pub(super) labels: Option<Vec<&'a str>>,
    lines: Vec<NamedLine>,
}

/// A metric over a key for one combination of the others.
struct NamedLine {
    /// The values of the others.
    name: String,
    /// The mean at each place.
    points: Vec<(f64, Spread)>,
}

impl<'a> OverKey<'a> {
    /// `None` where the runs that have the metric have one value of the key.
    pub(super) fn new(runs: &[Run], variants: &'a Variants, at: usize, metric: &str) -> Option<Self> {
        let key = &variants.keys[at];
        let (places, labels) = places(key);
        let others: Vec<&SweptKey> =
            variants.keys.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, key)| key).collect();
        let name = |run: usize| {
            let parts: Vec<String> =
                others.iter().map(|key| format!("{} {}", key.name, key.values[run])).collect();
            parts.join(", ")
        };
        let figure = format!("val.{metric}");
        let mut lines: Vec<(String, BTreeMap<usize, Vec<f64>>)> = Vec::new();
        let mut names: Vec<String> = (0..runs.len()).map(name).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() > MOST_LINES {
            names.fill(String::new());
        }
        // Places in order, so that lines go from left to right.
        let mut order: Vec<f64> = places.clone();
        order.sort_by(f64::total_cmp);
        order.dedup();
        for (run, value) in runs.iter().enumerate().filter_map(|(at, run)| Some((at, run.figure(&figure)?))) {
            let place = order.iter().position(|place| *place == places[run]).unwrap_or(0);
            let known = lines.iter().position(|(name, _)| *name == names[run]).unwrap_or_else(|| {
                lines.push((names[run].clone(), BTreeMap::new()));
                lines.len() - 1
            });
            lines[known].1.entry(place).or_default().push(value);
        }
        let seen: BTreeSet<usize> = lines.iter().flat_map(|(_, places)| places.keys().copied()).collect();
        if seen.len() < 2 {
            return None;
        }
        let spreads = |places: BTreeMap<usize, Vec<f64>>| {
            let spread = |(place, values): (usize, Vec<f64>)| Some((order[place], Spread::of(&values)?));
            places.into_iter().filter_map(spread).collect()
        };
        let lines =
            lines.into_iter().map(|(name, places)| NamedLine { name, points: spreads(places) }).collect();
        Some(Self { labels, lines })
    }

    /// The names of the lines: the values of the other keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.name.as_str())
    }

    /// The lines, in the colours of the first entries of a legend.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let line = |(entry, NamedLine { points, .. }): (usize, &NamedLine)| Line {
            points: points.iter().map(|(place, spread)| (*place, spread.mean)).collect(),
            bars: points
                .iter()
                .filter_map(|(place, spread)| Some((*place, spread.mean, spread.std?)))
                .collect(),
            ..Line::new(palette::key(entry))
        };
        self.lines.iter().enumerate().map(line)
    }

    fn svg(&self, label: &str) -> Option<String> {
        chart_over(&self.lines().collect::<Vec<_>>(), self.labels.as_deref(), label)
    }
}

/// Where the value of each run stands, and the labels of the places if these are numbered.
fn places(key: &SweptKey) -> (Vec<f64>, Option<Vec<&str>>) {
    /// Values that lie further apart would be crowded at one end.
    const MOST_RATIO: f64 = 30.0;
    if let Some(numbers) = &key.numbers {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low <= 0.0 || high / low <= MOST_RATIO {
            return (numbers.clone(), None);
        }
    }
    let mut labels: Vec<(Option<f64>, &str)> = key
        .values
        .iter()
        .enumerate()
        .map(|(run, value)| (key.numbers.as_ref().map(|numbers| numbers[run]), value.as_str()))
        .collect();
    labels.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(b.1)));
    labels.dedup_by_key(|label| label.1);
    let labels: Vec<&str> = labels.into_iter().map(|label| label.1).collect();
    let place = |value: &String| labels.iter().position(|label| label == value).unwrap_or(0) as f64;
    (key.values.iter().map(place).collect(), Some(labels))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn runs(recipes: &[(u64, f64, &str, f64)]) -> Vec<Run> {
        let run = |&(seed, lr, mask, top1): &(u64, f64, &str, f64)| {
            let recipe = json!({"seed": seed, "lr": lr, "mask": mask});
            let mut run = Run { lineage: recipe.clone(), recipe, ..Run::default() };
            run.summary.set("val.top1", top1);
            run
        };
        recipes.iter().map(run).collect()
    }

    const GRID: [(u64, f64, &str, f64); 5] = [
        (0, 0.2, "Random", 1.0),
        (0, 0.1, "Random", 2.0),
        (1, 0.1, "Random", 4.0),
        (0, 0.1, "Block", 7.0),
        (0, 0.2, "Block", 8.0),
    ];

    #[test]
    fn a_line_is_of_the_other_keys_and_goes_from_left_to_right() {
        let runs = runs(&GRID);
        let variants = Variants::of(&runs);
        let at = |name: &str| variants.keys.iter().position(|key| key.name == name).unwrap_or(9);
        let over = OverKey::new(&runs, &variants, at("lr"), "top1").unwrap();
        assert!(over.labels.is_none());
        let means =
            |line: usize| over.lines[line].points.iter().map(|(at, of)| (*at, of.mean)).collect::<Vec<_>>();
        assert_eq!((over.lines[0].name.as_str(), means(0)), ("mask Random", vec![(0.1, 3.0), (0.2, 1.0)]));
        assert_eq!((over.lines[1].name.as_str(), means(1)), ("mask Block", vec![(0.1, 7.0), (0.2, 8.0)]));
        let over = OverKey::new(&runs, &variants, at("mask"), "top1").unwrap();
        assert_eq!(over.labels, Some(vec!["Block", "Random"]));
        let page = section(&runs, &variants).map(Markup::into_string).unwrap_or_default();
        assert_eq!(page.matches("<svg class=\"plot\"").count(), 2);
        assert!(page.contains(">Random</text>") || page.contains("Random\n</text>"), "{page}");
    }

    #[test]
    fn values_over_decades_are_labels_in_their_order() {
        let runs = runs(&[(0, 1e-1, "a", 1.0), (0, 1e-4, "a", 2.0), (0, 1e-2, "a", 3.0)]);
        let variants = Variants::of(&runs);
        assert_eq!(places(&variants.keys[0]), (vec![2.0, 0.0, 1.0], Some(vec!["0.0001", "0.01", "0.1"])));
    }

    #[test]
    fn what_was_not_swept_has_no_chart() {
        let of = |rows: &[(u64, f64, &str, f64)]| {
            let runs = runs(rows);
            section(&runs, &Variants::of(&runs)).is_some()
        };
        assert!(of(&GRID) && !of(&GRID[..2]), "two runs are compared in a table");
        assert!(!of(&[(0, 0.1, "a", 1.0), (1, 0.1, "a", 1.0)]), "seeds alone");
    }
}
