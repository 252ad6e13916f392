//! Markdown, as GitHub and `mdBook` read it.

use std::fmt::Write as _;

use crate::runs::{markdown_row, markdown_text};
use crate::table::code::{code, spans};
use crate::table::sheet::{Cell, Heading, Sheet};

pub fn render(sheet: &Sheet, sources: bool) -> String {
    let mut text = format!("**{}**\n\n", markdown_text(&sheet.title));
    if !sheet.description.is_empty() {
        let _ = writeln!(text, "{}\n", sheet.description);
    }
    text += &markdown_row(sheet.columns.iter().map(|column| markdown_text(&column.name)));
    let rule = sheet.columns.iter().map(|column| if column.numeric { "---:" } else { "---" });
    let _ = writeln!(text, "| {} |", rule.collect::<Vec<_>>().join(" | "));
    for row in &sheet.rows {
        text += &markdown_row(row.iter().zip(&sheet.columns).map(|(cell, column)| self::cell(cell, column)));
    }
    if !sheet.notes.is_empty() {
        text.push('\n');
    }
    for (at, note) in sheet.notes.iter().enumerate() {
        let _ = writeln!(text, "[^{}]: {}", at + 1, line(note));
    }
    if sources && !sheet.sources.is_empty() {
        text += "\nSources:\n\n";
        for source in &sheet.sources {
            let _ = writeln!(text, "- {}", line(&source.line()));
        }
    }
    text
}

fn cell(cell: &Cell, column: &Heading) -> String {
    let (value, beside) = cell.text(column);
    let value = markdown_text(&value);
    let beside_is_best = cell.is_best_beside();
    let mut text = if cell.best && !beside_is_best { format!("**{value}**") } else { value };
    if let Some(beside) = beside {
        let mark = if beside_is_best { "**" } else { "" };
        let _ = write!(text, " ({mark}{}{mark})", markdown_text(&beside));
    }
    for note in &cell.notes {
        let _ = write!(text, "[^{}]", note + 1);
    }
    text
}

/// A line with `code`; what stands around it is Markdown, but no HTML.
fn line(text: &str) -> String {
    let part = |(is_code, text): (bool, &str)| if is_code { code(text) } else { text.replace('<', "\\<") };
    spans(text).into_iter().map(part).collect()
}
