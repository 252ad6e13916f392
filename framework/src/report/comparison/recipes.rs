//! The keys in which the resolved recipes differ, a column per run.

use maud::{Markup, html};

use super::palette;
use super::run::Run;
use crate::recipe::differences;
use crate::report::html::recipe;

/// `None` for a single run.
pub(super) fn section(runs: &[Run]) -> Option<Markup> {
    if runs.len() < 2 {
        return None;
    }
    let recipes: Vec<_> = runs.iter().map(|run| &run.recipe).collect();
    let differences = differences(&recipes);
    Some(html! {
        @if differences.is_empty() {
            p { "The recipes of all runs are the same." }
        } @else {
            p.note { "Keys in which the resolved recipes differ; what differs from the first run is marked." }
            div.wide {
                table.diff {
                    thead {
                        tr {
                            th scope="col" { "Key" }
                            @for (index, run) in runs.iter().enumerate() {
                                th.run scope="col" { (palette::sample(index)) (run.label) }
                            }
                        }
                    }
                    tbody {
                        @for difference in &differences {
                            tr {
                                th.path scope="row" { (breakable(&difference.key)) }
                                @for value in &difference.values {
                                    td.changed[*value != difference.values[0]] { (recipe::value(*value)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// A key that may be broken behind its dots.
fn breakable(key: &str) -> Markup {
    html! { @for part in key.split_inclusive('.') { (part) wbr; } }
}
