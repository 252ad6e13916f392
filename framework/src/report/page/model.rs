//! The model of a run: its nodes, and the groups in which the optimizer has its parameters.

use maud::{Markup, html};

use super::number::{count, setting};
use super::run::Run;

/// The nodes of the graph. `None` where they are not known.
pub(super) fn nodes(run: &Run) -> Option<Markup> {
    let nodes = &run.details.nodes;
    let parameters = nodes.iter().map(|node| node.parameters).sum();
    let gmacs: f64 = nodes.iter().map(|node| node.gmacs).sum();
    (!nodes.is_empty()).then(|| html! {
        div.wide {
            table {
                thead {
                    tr {
                        @for title in ["Node", "Type", "From", "Output per image"] { th scope="col" { (title) } }
                        @for title in ["Parameters", "GMACs"] { th.number scope="col" { (title) } }
                    }
                }
                tbody {
                    @for node in nodes {
                        tr {
                            th scope="row" { (node.name) }
                            td { (node.type_name) }
                            td { (node.from.join(", ")) }
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
    })
}

/// The optimizer's parameter groups. `None` where they are not known.
pub(super) fn parameter_groups(run: &Run) -> Option<Markup> {
    let groups = &run.details.parameter_groups;
    (!groups.is_empty()).then(|| html! {
        div.wide {
            table {
                thead {
                    tr {
                        th scope="col" { "Group" }
                        @for title in ["Tensors", "Parameters", "Learning rate ×", "Weight decay"] {
                            th.number scope="col" { (title) }
                        }
                    }
                }
                tbody {
                    @for group in groups {
                        tr {
                            th scope="row" { (group.name) }
                            td.number { (group.tensors) }
                            td.number { (count(group.parameters)) }
                            td.number { @if group.lr_scale == 0.0 { "frozen" } @else { (setting(group.lr_scale)) } }
                            td.number { (setting(group.weight_decay)) }
                        }
                    }
                }
            }
        }
    })
}
