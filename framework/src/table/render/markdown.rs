//! Markdown, as GitHub and `mdBook` read it.

use std::fmt::Write as _;

use crate::runs::markdown_row;
use crate::table::sheet::{Cell, Heading, Sheet};

pub fn render(sheet: &Sheet, sources: bool) -> String {
    let mut text = format!("**{}**\n\n", escape(&sheet.title));
    if !sheet.description.is_empty() {
        let _ = writeln!(text, "{}\n", sheet.description);
    }
    text += &markdown_row(sheet.columns.iter().map(|column| escape(&column.name)));
    let line = sheet.columns.iter().map(|column| if column.numeric { "---:" } else { "---" });
    let _ = writeln!(text, "| {} |", line.collect::<Vec<_>>().join(" | "));
    for row in &sheet.rows {
        text += &markdown_row(row.iter().zip(&sheet.columns).map(|(cell, column)| self::cell(cell, column)));
    }
    if !sheet.notes.is_empty() {
        text.push('\n');
    }
    for (at, note) in sheet.notes.iter().enumerate() {
        let _ = writeln!(text, "[^{}]: {note}", at + 1);
    }
    if sources && !sheet.sources.is_empty() {
        text += "\nSources:\n\n";
        for source in &sheet.sources {
            let _ = writeln!(text, "- {}", source.line());
        }
    }
    text
}

fn cell(cell: &Cell, column: &Heading) -> String {
    let (value, beside) = cell.text(column);
    let value = escape(&value);
    let beside_is_best = cell.is_best_beside();
    let mut text = if cell.best && !beside_is_best { format!("**{value}**") } else { value };
    if let Some(beside) = beside {
        let mark = if beside_is_best { "**" } else { "" };
        let _ = write!(text, " ({mark}{beside}{mark})");
    }
    for note in &cell.notes {
        let _ = write!(text, "[^{}]", note + 1);
    }
    text
}

/// Letters that Markdown would read.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '*' | '_' | '`' | '<' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
