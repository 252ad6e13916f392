//! The figures of a run, or those of several in a table.

use maud::{Markup, html};
use serde_json::Value;

use super::number::{count, figure, setting};
use super::palette;
use super::run::Run;
use crate::report::{Split, Summary};

/// A column of figures.
struct Column {
    title: String,
    /// What the column is below: `validation`, `training`, or nothing.
    group: &'static str,
    values: Vec<Option<f64>>,
    write: fn(f64) -> String,
    /// Whether more is better, where it is known.
    more_is_better: Option<bool>,
}

/// The figures at the top of the page of a single run.
pub(super) fn figures(summary: &Summary) -> Markup {
    // Texts, and the seed, are said elsewhere on the page.
    let figures = || summary.iter().filter(|(name, value)| !value.is_string() && *name != "seed");
    html! {
        @if figures().next().is_some() {
            dl.summary {
                @for (name, value) in figures() {
                    div { dt { (name.replace('_', " ")) } dd { (written(value)) } }
                }
            }
        }
    }
}

fn written(value: &Value) -> String {
    match (value.as_u64(), value.as_f64()) {
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
    let bests: Vec<Option<f64>> = columns.iter().map(Column::best).collect();
    Some(html! {
        div.wide {
            table.sortable.summary-table {
                caption { "The best of each column is bold. " span.script { "Headings sort." } }
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
                    @for (index, run) in runs.iter().enumerate() {
                        tr data-entry=(index) {
                            th.run scope="row" data-value=(run.label) { (palette::sample(index)) (run.label) @if !same_name && run.name() != run.label { small { (run.name()) } } }
                            td data-value=(run.status()) { span.status.(run.status()) { (run.status()) } }
                            @for (column, best) in columns.iter().zip(&bests) { (cell(column, index, *best)) }
                        }
                    }
                }
            }
        }
    })
}

fn cell(column: &Column, run: usize, best: Option<f64>) -> Markup {
    match column.values[run] {
        Some(value) if best == Some(value) => {
            html! { td.number data-value=(value) { strong { ((column.write)(value)) } } }
        }
        Some(value) => html! { td.number data-value=(value) { ((column.write)(value)) } },
        None => html! { td.number.empty { "–" } },
    }
}

impl Column {
    /// The best value, if it is known what that is and not all are the same.
    fn best(&self) -> Option<f64> {
        let more = self.more_is_better?;
        let values = || self.values.iter().flatten().copied().filter(|value| value.is_finite());
        let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        (low < high).then_some(if more { high } else { low })
    }
}

fn columns(runs: &[Run]) -> Vec<Column> {
    let of = |title: &str, group: &'static str, key: &str, write: fn(f64) -> String| Column {
        title: title.replace('_', " "),
        group,
        values: runs.iter().map(|run| run.figure(key)).collect(),
        write,
        more_is_better: more_is_better(title),
    };
    let whole: fn(f64) -> String = |value| count(value as u64);
    let mut columns: Vec<Column> =
        validated(runs).iter().map(|name| of(name, "validation", &format!("val.{name}"), figure)).collect();
    columns.push(Column { more_is_better: None, ..of(&best_title(runs), "so far", "best", figure) });
    columns.push(of("loss", "training", "train.loss", figure));
    columns.push(of("parameters", "", "parameters", whole));
    columns.push(of("GMACs", "", "gmacs", |value| format!("{value:.3}")));
    columns.push(of("epochs", "", "epoch", setting));
    columns.push(of("steps", "", "step", whole));
    columns.push(of("seconds", "", "seconds", |value| count(value.round() as u64)));
    columns.push(of("images/s", "", "train.images_per_second", figure));
    columns.push(of("seed", "", "seed", whole));
    columns.retain(|column| column.values.iter().any(Option::is_some));
    columns
}

/// The names of what was validated, in the order of their first appearance.
fn validated(runs: &[Run]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in
        runs.iter().flat_map(|run| run.summary.iter().filter_map(|(name, _)| name.strip_prefix("val.")))
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| name.ends_with("loss"));
    names
}

/// `best top1`, where all runs agree on which of their metrics that is.
fn best_title(runs: &[Run]) -> String {
    let name = |run: &Run| {
        let best = run.summary.get("best").and_then(Value::as_f64)?;
        let names = run.metrics.names(Split::Val);
        let holds =
            |name: &&str| run.metrics.series(Split::Val, name).iter().any(|point| point.value == best);
        names.into_iter().find(holds).map(str::to_owned)
    };
    let mut names: Vec<String> = runs.iter().filter_map(name).collect();
    names.dedup();
    match names.as_slice() {
        [only] => format!("best {only}"),
        _ => "best".to_owned(),
    }
}

/// What the names of metrics say of their direction.
fn more_is_better(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        () if has(&["loss", "error", "mse", "mae"]) => Some(false),
        () if has(&["top", "acc", "iou", "psnr", "precision", "recall", "images/s"])
            || name.split('_').any(is_average) =>
        {
            Some(true)
        }
        () => None,
    }
}

/// Whether a part of a name is that of an average precision or recall: `ap`, `ap50`, `ar100`.
fn is_average(part: &str) -> bool {
    let number = part.strip_prefix("ap").or_else(|| part.strip_prefix("ar"));
    number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_a_metric_shows_in_its_name() {
        let of = ["loss", "pixel_mse", "top1", "miou", "AP50", "box_ar_small"].map(more_is_better);
        assert_eq!(of, [Some(false), Some(false), Some(true), Some(true), Some(true), Some(true)]);
        assert_eq!(["seconds", "parameters", "artefacts", "apples"].map(more_is_better), [None; 4]);
    }
}
