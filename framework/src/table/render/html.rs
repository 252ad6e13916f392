//! HTML, as a page of its own.

use maud::{Markup, html};

use crate::report::{Page, Section};
use crate::table::code::spans;
use crate::table::sheet::{Cell, Heading, Sheet};

const STYLE: &str = "\
.beside{color:var(--muted);font-size:.85em}\
ol{margin:0;padding-left:1.5rem;font-size:.9rem}\
code{font-size:.9em;overflow-wrap:anywhere}";

pub fn render(sheet: &Sheet) -> String {
    let sections = [
        Some(Section { id: "table", title: "Table", content: wide_table(sheet) }),
        (!sheet.notes.is_empty()).then(|| Section { id: "notes", title: "Notes", content: notes(sheet) }),
        (!sheet.sources.is_empty()).then(|| Section {
            id: "sources",
            title: "Sources",
            content: html! { ul { @for source in &sheet.sources { li { (code(&source.line())) } } } },
        }),
    ];
    let page = Page {
        title: &sheet.title,
        header: html! {
            h1 { (sheet.title) }
            @if !sheet.description.is_empty() { p { (code(&sheet.description)) } }
        },
        sections: sections.into_iter().flatten().collect(),
        version: env!("CARGO_PKG_VERSION"),
        style: STYLE,
        script: None,
    };
    page.render() + "\n"
}

fn wide_table(sheet: &Sheet) -> Markup {
    html! { div.wide tabindex="0" role="region" aria-label=(sheet.title) { (table(sheet)) } }
}

fn notes(sheet: &Sheet) -> Markup {
    html! {
        ol {
            @for (at, note) in sheet.notes.iter().enumerate() {
                li id=(format!("note-{}", at + 1)) { (code(note)) }
            }
        }
    }
}

fn table(sheet: &Sheet) -> Markup {
    html! {
        table {
            thead {
                tr {
                    @for column in &sheet.columns {
                        th scope="col" class=[column.numeric.then_some("number")] { (column.name) }
                    }
                }
            }
            tbody {
                @for row in &sheet.rows {
                    tr {
                        @for (cell, column) in row.iter().zip(&sheet.columns) {
                            td class=[column.numeric.then_some("number")] { (self::cell(cell, column)) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(cell: &Cell, column: &Heading) -> Markup {
    let (value, beside) = cell.text(column);
    html! {
        @if cell.best && !cell.is_best_beside() { strong { (value) } } @else { (value) }
        @if let Some(beside) = beside {
            " "
            span.beside { "(" @if cell.is_best_beside() { strong { (beside) } } @else { (beside) } ")" }
        }
        @for note in &cell.notes {
            sup { a href=(format!("#note-{}", note + 1)) { (note + 1) } }
        }
    }
}

fn code(text: &str) -> Markup {
    html! {
        @for (is_code, part) in spans(text) {
            @if is_code { code { (part) } } @else { (part) }
        }
    }
}
