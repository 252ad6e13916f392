//! A page of its own.

use maud::{DOCTYPE, Markup, html};

use super::spans;
use crate::table::sheet::{Cell, Heading, Sheet};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
h1{font-size:1.4rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}\
th,td{padding:.3rem .8rem;text-align:left;white-space:nowrap}\
thead{border-bottom:1px solid}\
.number{text-align:right;font-variant-numeric:tabular-nums}\
.beside{color:#595959;font-size:.85em}\
code{font-size:.9em;overflow-wrap:anywhere}\
ol,ul{font-size:.9em}\
sup a{text-decoration:none}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}.beside{color:#a8a8a8}a{color:#8ab4f8}}\
@media print{body{margin:0;max-width:none}}";

pub fn render(sheet: &Sheet) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (sheet.title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { (sheet.title) }
                @if !sheet.description.is_empty() { p { (code(&sheet.description)) } }
                div.wide tabindex="0" role="region" aria-label=(sheet.title) { (table(sheet)) }
                @if !sheet.notes.is_empty() {
                    ol {
                        @for (at, note) in sheet.notes.iter().enumerate() {
                            li id=(format!("note-{}", at + 1)) { (code(note)) }
                        }
                    }
                }
                @if !sheet.sources.is_empty() {
                    h2 { "Sources" }
                    ul { @for source in &sheet.sources { li { (code(&source.line())) } } }
                }
            }
        }
    };
    page.into_string() + "\n"
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
