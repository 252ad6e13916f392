//! The figures of a run, or those of several in a table.

use maud::{Markup, html};
use serde_json::Value;

use super::number::{count, figure, setting};
use super::palette;
use super::run::Run;
use crate::report::clock;

/// How long a run took, in its summary.
const SECONDS: &str = "seconds";

/// A column of figures.
struct Column {
    title: String,
    /// What the column is below: `validation`, `training`, or nothing.
    group: &'static str,
    values: Vec<Option<f64>>,
    write: fn(f64) -> String,
}

/// The figures at the top of the page of a single run, those that decide first.
pub(super) fn figures(run: &Run) -> Markup {
    let deciding = run.details.best.as_ref().map_or("", |best| best.name.as_str());
    // Texts, and the seed, are said elsewhere on the page.
    let mut figures: Vec<_> =
        run.summary.iter().filter(|(name, value)| !value.is_string() && *name != "seed").collect();
    figures.sort_by_key(|(name, _)| rank(name, deciding));
    html! {
        @if !figures.is_empty() {
            dl.summary {
                @for (name, value) in figures {
                    div { dt { (title(name, deciding)) } dd { (written(name, value)) } }
                }
            }
        }
    }
}

/// The best value first, then what was validated, what training says, how long it took, and what it was of.
fn rank(name: &str, deciding: &str) -> u8 {
    match name {
        "best" => 0,
        "epoch" | "step" => 5,
        SECONDS => 6,
        "parameters" | "gmacs" => 7,
        _ => match (name.strip_prefix("val."), name.strip_prefix("train.")) {
            (Some(metric), _) if metric == deciding => 1,
            (Some(_), _) => 2,
            (_, Some("loss")) => 3,
            (_, Some(_)) => 4,
            (None, None) => 8,
        },
    }
}

fn title(name: &str, deciding: &str) -> Markup {
    let words = |name: &str| name.replace('_', " ");
    match (name.strip_prefix("val."), name.strip_prefix("train.")) {
        (Some(metric), _) => html! { (words(metric)) ", validation" },
        (_, Some(metric)) => html! { (words(metric)) ", training" },
        (None, None) => match name {
            "best" => html! { "best " (words(deciding)) },
            SECONDS => html! { "time" },
            "gmacs" => html! { "GMACs" },
            _ => html! { (words(name)) },
        },
    }
}

fn written(name: &str, value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
        (_, Some(seconds)) if name == SECONDS => clock(seconds.round() as u64),
        (Some(whole), _) => count(whole),
        (None, Some(value)) => figure(value),
        (None, None) if value.is_null() => "–".to_owned(),
        (None, None) => value.to_string(),
    }
}

/// `None` for a single run, whose [`figures`] are at the top.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    if runs.len() < 2 {
        return None;
    }
    let columns = columns(runs);
    let same_name = runs.iter().all(|run| run.name() == runs[0].name());
    Some(html! {
        div.wide {
            table.sortable.summary-table {
                caption { "The best first. " span.script { "Headings sort." } }
                thead {
                    tr {
                        th scope="col" { "Run" }
                        th scope="col" { "Status" }
                        @for column in &columns {
                            th.number scope="col" { (column.title) @if !column.group.is_empty() { " " small { (column.group) } } }
                        }
                    }
                }
                tbody {
                    @for index in best_first(runs) {
                        @let run = &runs[index];
                        tr data-run=(index) {
                            th.run scope="row" data-value=(run.label) { (palette::sample(run.entry)) (run.label) @if !same_name && run.name() != run.label { small { (run.name()) } } }
                            td data-value=(run.status()) { span.status.(run.status()) { (run.status()) } }
                            @for column in &columns { (cell(column, index)) }
                        }
                    }
                }
            }
        }
    })
}

/// The numbers of the runs, by the metric that decides; those of one metric behind those of another.
pub(super) fn best_first(runs: &[Run]) -> Vec<usize> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().filter_map(Run::deciding) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let key = |run: usize| {
        let (name, more) = runs[run].deciding()?;
        let value = runs[run].figure(&format!("val.{name}")).filter(|value| value.is_finite());
        let badness = value.map_or(f64::INFINITY, |value| if more { -value } else { value });
        Some((names.iter().position(|known| *known == name)?, badness))
    };
    let mut order: Vec<usize> = (0..runs.len()).collect();
    let last = (usize::MAX, f64::INFINITY);
    let keys: Vec<(usize, f64)> = order.iter().map(|run| key(*run).unwrap_or(last)).collect();
    order.sort_by(|a, b| keys[*a].0.cmp(&keys[*b].0).then(keys[*a].1.total_cmp(&keys[*b].1)));
    order
}

fn cell(column: &Column, run: usize) -> Markup {
    let Some(value) = column.values[run] else { return html! { td.number.empty { "–" } } };
    html! { td.number data-value=(value) { ((column.write)(value)) } }
}

fn columns(runs: &[Run]) -> Vec<Column> {
    let of = |title: &str, group: &'static str, key: &str, write: fn(f64) -> String| Column {
        title: title.replace('_', " "),
        group,
        values: runs.iter().map(|run| run.figure(key)).collect(),
        write,
    };
    let whole: fn(f64) -> String = |value| count(value as u64);
    let mut columns: Vec<Column> =
        validated(runs).iter().map(|name| of(name, "validation", &format!("val.{name}"), figure)).collect();
    columns.push(of(&best_title(runs), "so far", "best", figure));
    columns.push(of("loss", "training", "train.loss", figure));
    columns.push(of("parameters", "", "parameters", whole));
    columns.push(of("GMACs", "", "gmacs", |value| format!("{value:.3}")));
    columns.push(of("epochs", "", "epoch", setting));
    columns.push(of("steps", "", "step", whole));
    columns.push(of("time", "", SECONDS, |value| clock(value.round() as u64)));
    columns.push(of("images/s", "", "train.images_per_second", figure));
    columns.push(of("seed", "", "seed", whole));
    columns.retain(|column| column.values.iter().any(Option::is_some));
    columns
}

/// The names of what runs have validated, in the order of their first appearance, losses last.
pub(super) fn validated<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        for name in run.summary.iter().filter_map(|(name, _)| name.strip_prefix("val.")) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_by_key(|name| name.ends_with("loss"));
    names
}

/// `best top1`, where all runs agree on which of their metrics that is.
fn best_title(runs: &[Run]) -> String {
    let mut names: Vec<&str> = runs.iter().filter_map(Run::deciding).map(|(name, _)| name).collect();
    names.dedup();
    match names.as_slice() {
        [only] => format!("best {only}"),
        _ => "best".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &[(&str, f64)]) -> Run {
        let mut run = Run::default();
        values.iter().for_each(|(name, value)| run.summary.set(*name, *value));
        run
    }

    #[test]
    fn runs_come_best_first_by_the_metric_that_decides() {
        let runs = [
            run(&[("val.top1", 70.0), ("val.loss", 0.1)]),
            run(&[]),
            run(&[("val.top1", 80.0), ("val.loss", 0.9)]),
            run(&[("val.loss", 0.5)]),
            run(&[("val.top1", f64::NAN)]),
            run(&[("val.loss", 0.2)]),
        ];
        assert_eq!(best_first(&runs), [2, 0, 4, 5, 3, 1]);
    }
}
