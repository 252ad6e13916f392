//! The tables of the page.

use maud::{Markup, html};
use serde_json::Value;

use super::number::{count, figure, setting};
use super::{CorruptSample, GraphNode, Link, ParameterGroup};
use crate::report::{Environment, Summary};

/// More corrupt samples than this are counted, not listed.
const MOST_CORRUPT: usize = 100;

pub(in crate::report) fn summary(summary: &Summary) -> Markup {
    html! {
        @if !summary.is_empty() {
            dl.summary {
                @for (name, value) in summary.iter() {
                    div { dt { (name.replace('_', " ")) } dd { (written(value)) } }
                }
            }
        }
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => count(whole),
            (None, Some(value)) => figure(value),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}

pub(in crate::report) fn graph(nodes: &[GraphNode]) -> Markup {
    let parameters = nodes.iter().map(|node| node.parameters).sum();
    let gmacs: f64 = nodes.iter().map(|node| node.gmacs).sum();
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "Node" }
                        th scope="col" { "Type" }
                        th scope="col" { "From" }
                        th scope="col" { "Gives" }
                        th.number scope="col" { "Parameters" }
                        th.number scope="col" { "GMACs" }
                    }
                }
                tbody {
                    @for node in nodes {
                        tr {
                            th scope="row" { (node.name) }
                            td { (node.kind) }
                            td { (node.inputs.join(", ")) }
                            td.shapes {
                                @for (i, output) in node.outputs.iter().enumerate() { @if i > 0 { br; } (output) }
                            }
                            td.number { (count(node.parameters)) }
                            td.number { (format!("{:.3}", node.gmacs)) }
                        }
                    }
                }
                tfoot {
                    tr {
                        th scope="row" colspan="4" { "Total" }
                        td.number { (count(parameters)) }
                        td.number { (format!("{gmacs:.3}")) }
                    }
                }
            }
        }
    }
}

pub(in crate::report) fn parameter_groups(groups: &[ParameterGroup]) -> Markup {
    html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "Group" }
                        th.number scope="col" { "Tensors" }
                        th.number scope="col" { "Parameters" }
                        th.number scope="col" { "Learning rate ×" }
                        th.number scope="col" { "Weight decay" }
                    }
                }
                tbody {
                    @for group in groups {
                        tr {
                            th scope="row" { (group.name) }
                            td.number { (group.tensors) }
                            td.number { (count(group.parameters)) }
                            td.number {
                                @if group.lr_scale == 0.0 { "frozen" } @else { (setting(group.lr_scale)) }
                            }
                            td.number { (setting(group.weight_decay)) }
                        }
                    }
                }
            }
        }
    }
}

pub(in crate::report) fn corrupt_samples(samples: &[CorruptSample]) -> Markup {
    let unlisted = samples.len().saturating_sub(MOST_CORRUPT);
    html! {
        p { "Left out because they could not be read: " (count(samples.len() as u64)) "." }
        div.wide {
            table {
                thead { tr { th scope="col" { "Sample" } th scope="col" { "Reason" } } }
                tbody {
                    @for sample in samples.iter().take(MOST_CORRUPT) {
                        tr { th.path scope="row" { (sample.name) } td { (sample.reason) } }
                    }
                }
            }
        }
        @if unlisted > 0 { p { "And " (count(unlisted as u64)) " more; see the log." } }
    }
}

pub(in crate::report) fn environment(environment: &Environment) -> Markup {
    html! {
        div.wide {
            table {
                tbody {
                    @for (label, value) in environment.rows() {
                        tr { th scope="row" { (label) } td.path { (value) } }
                    }
                }
            }
        }
    }
}

pub(in crate::report) fn links(links: &[Link]) -> Markup {
    html! {
        ul {
            @for link in links {
                // The prefix keeps it a path, whatever it says.
                li { a href={ "./" (link.path) } { (link.path) } " " span.about { (link.text) } }
            }
        }
    }
}
