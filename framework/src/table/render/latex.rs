//! `LaTeX`, with the rules of the package `booktabs`.

use std::fmt::Write as _;

use crate::table::code::spans;
use crate::table::sheet::{Cell, Heading, Sheet};

pub fn render(sheet: &Sheet, sources: bool) -> String {
    let kinds: String = sheet.columns.iter().map(|column| if column.numeric { 'r' } else { 'l' }).collect();
    let mut text = String::from("% \\usepackage{booktabs}\n\\begin{table}\n\\centering\n");
    let _ = writeln!(text, "\\caption{{{}}}", escape(&sheet.title));
    let _ = writeln!(text, "\\begin{{tabular}}{{{kinds}}}\n\\toprule");
    let names = sheet.columns.iter().map(|column| escape(&column.name));
    let _ = writeln!(text, "{} \\\\\n\\midrule", names.collect::<Vec<_>>().join(" & "));
    for row in &sheet.rows {
        let cells = row.iter().zip(&sheet.columns).map(|(cell, column)| self::cell(cell, column));
        let _ = writeln!(text, "{} \\\\", cells.collect::<Vec<_>>().join(" & "));
    }
    text += "\\bottomrule\n\\end{tabular}\n";
    if !sheet.notes.is_empty() {
        text += "\\par\\smallskip\\footnotesize\n";
        for (at, note) in sheet.notes.iter().enumerate() {
            let _ = writeln!(text, "\\textsuperscript{{{}}}~{}\\\\", at + 1, note_text(note));
        }
    }
    text += "\\end{table}\n";
    if sources {
        sheet.sources.iter().for_each(|source| {
            let _ = writeln!(text, "% {}", source.line());
        });
    }
    text
}

fn cell(cell: &Cell, column: &Heading) -> String {
    let (value, beside) = cell.text(column);
    let value = escape(&value);
    let beside_is_best = cell.is_best_beside();
    let bold = |text: String, is_bold| if is_bold { format!("\\textbf{{{text}}}") } else { text };
    let mut text = bold(value, cell.best && !beside_is_best);
    if let Some(beside) = beside {
        let _ = write!(text, " ({})", bold(escape(&beside), beside_is_best));
    }
    if !cell.notes.is_empty() {
        let notes: Vec<_> = cell.notes.iter().map(|note| (note + 1).to_string()).collect();
        let _ = write!(text, "\\textsuperscript{{{}}}", notes.join(","));
    }
    text
}

fn note_text(note: &str) -> String {
    let part = |(is_code, text): (bool, &str)| match is_code {
        true => format!("\\texttt{{{}}}", escape(text)),
        false => escape(text),
    };
    spans(note).into_iter().map(part).collect()
}

/// Letters that `LaTeX` would read, and those that its fonts lack.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', letter]),
            '\\' => escaped += "\\textbackslash{}",
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '<' => escaped += "\\textless{}",
            '>' => escaped += "\\textgreater{}",
            '|' => escaped += "\\textbar{}",
            // At the beginning of a row it would be an option of the line before.
            '[' => escaped += "{[}",
            '±' => escaped += "$\\pm$",
            '−' => escaped += "$-$",
            '×' => escaped += "$\\times$",
            '–' => escaped += "--",
            '“' => escaped += "``",
            '”' => escaped += "''",
            '\n' => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
