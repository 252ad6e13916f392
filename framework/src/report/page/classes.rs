//! What the last evaluation found out about every class: a table, and precision over recall.

use maud::{Markup, PreEscaped, html};

use super::number::{count, figure};
use super::palette;
use super::plot::{Line, chart};
use super::run::Run;
use crate::component::ClassFigures;

/// Curves of more classes than this would make the page too large.
const MOST_CURVES: usize = 100;

/// `None` where no class was measured by itself.
pub(super) fn section(run: &Run) -> Option<Markup> {
    let table = run.classes.as_ref().filter(|table| !table.classes.is_empty())?;
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in table.classes.iter().flat_map(|class| &class.figures) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let with_curves: Vec<_> = table.classes.iter().filter(|class| !class.curves.is_empty()).collect();
    Some(html! {
        p.note { "The evaluation of step " (count(table.step)) ". Figures of every class that occurs." }
        div.wide {
            table.sortable {
                thead {
                    tr {
                        th scope="col" { "Class" }
                        @for name in &names { th.number scope="col" { (name.replace('_', " ")) } }
                    }
                }
                tbody { @for class in &table.classes { (row(class, &names)) } }
            }
        }
        @if !with_curves.is_empty() {
            details {
                summary { "Precision over recall" @if with_curves.len() > MOST_CURVES { " of the first " (MOST_CURVES) " classes" } }
                div.curves { @for class in with_curves.iter().take(MOST_CURVES) { (curves(class)) } }
            }
        }
    })
}

fn row(class: &ClassFigures, names: &[&str]) -> Markup {
    let value = |name: &str| class.figures.iter().find(|(known, _)| known == name).map(|figure| figure.1);
    html! {
        tr {
            th scope="row" data-value=(class.class) { (class.class) }
            @for name in names {
                @match value(name) {
                    Some(value) => td.number data-value=(value) { (figure(value)) },
                    None => td.number.empty { "–" },
                }
            }
        }
    }
}

fn curves(class: &ClassFigures) -> Markup {
    let line = |(entry, (_, values)): (usize, &(String, Vec<f64>))| {
        let last = values.len().saturating_sub(1).max(1) as f64;
        let points =
            values.iter().enumerate().map(|(at, &value)| (100.0 * at as f64 / last, value)).collect();
        Line { points, ..Line::new(palette::key(entry)) }
    };
    let lines: Vec<Line> = class.curves.iter().enumerate().map(line).collect();
    let label = format!("precision over recall of {}, in percent", class.class);
    html! {
        figure {
            figcaption {
                h3 { (class.class) }
                @for (entry, (name, _)) in class.curves.iter().enumerate() {
                    span.last { (palette::sample(entry)) (name.replace('_', " ")) }
                }
            }
            @if let Some(svg) = chart(&lines, false, &label) { (PreEscaped(svg)) }
        }
    }
}
