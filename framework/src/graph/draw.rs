//! The graph as a drawing: Mermaid and Graphviz.

use std::fmt::Write as _;

use super::summary::{Row, Summary};

/// The graph as a Mermaid flowchart.
pub fn mermaid(summary: &Summary) -> String {
    let mut text = format!("flowchart LR\n  images([\"images {}\"])\n", summary.image);
    for row in &summary.nodes {
        let _ = writeln!(text, "  {}[\"{}\"]", row.node, label(row, "<br/>"));
        for (source, outputs) in edges(row) {
            let _ = writeln!(text, "  {source} -->{outputs} {}", row.node);
        }
    }
    text
}

/// The graph in the language of Graphviz.
pub fn dot(summary: &Summary) -> String {
    let mut text = String::from("digraph model {\n  rankdir=LR;\n  node [shape=box];\n");
    let _ = writeln!(text, "  \"images\" [shape=oval, label=\"images {}\"];", summary.image);
    for row in &summary.nodes {
        let _ = writeln!(text, "  \"{}\" [label=\"{}\"];", row.node, label(row, "\\n"));
        for source in &row.from {
            let (source, level) = source.split_once('.').unwrap_or((source, ""));
            let _ = writeln!(text, "  \"{source}\" -> \"{}\" [label=\"{level}\"];", row.node);
        }
    }
    text.push_str("}\n");
    text
}

fn label(row: &Row, newline: &str) -> String {
    let mut lines = vec![format!("{}: {}", row.node, row.type_name)];
    lines.extend(row.outputs.iter().cloned());
    if row.parameters > 0 {
        lines.push(format!("{:.2} M parameters", row.parameters as f64 / 1e6));
    }
    lines.join(newline)
}

/// Source nodes with the label of the arrow that leaves them.
fn edges(row: &Row) -> impl Iterator<Item = (&str, String)> {
    row.from.iter().map(|source| match source.split_once('.') {
        Some((node, level)) => (node, format!("|{level}|")),
        None => (source.as_str(), String::new()),
    })
}
