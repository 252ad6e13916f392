//! A data frame as text, CSV, Markdown or JSON.

use std::fmt::Write as _;

use clap::ValueEnum;
use polars::prelude::*;
use serde_json::{Map, Value};

use super::RunsError;
use crate::columns::aligned;
use crate::terminal::{indented_json, visible};

/// How to print a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns in line, for a terminal; numbers to five digits.
    Table,
    /// Comma-separated values, every digit.
    Csv,
    /// A list of objects, every digit.
    Json,
    /// A Markdown table; numbers to five digits.
    Markdown,
}

impl Format {
    /// The frame as text; a table of lines that are `width` letters long at most, as far as two columns fit.
    ///
    /// # Errors
    /// When a cell cannot be read.
    pub fn print(self, frame: &DataFrame, width: Option<usize>) -> Result<String, RunsError> {
        let names = frame.columns().iter().map(|column| column.name().to_string());
        match self {
            Self::Table => {
                let names = names.map(|name| visible(&name)).collect();
                let table = [vec![names], cells(frame, short)?].concat();
                let is_number = |column: usize| frame.columns().get(column).is_some_and(is_number);
                let blocks = blocks(&table, width.unwrap_or(usize::MAX)).into_iter().map(|columns| {
                    let pick =
                        |row: &Vec<String>| columns.iter().map(|column| row[*column].clone()).collect();
                    let rows: Vec<Vec<String>> = table.iter().map(pick).collect();
                    aligned(&rows, |column| is_number(columns[column])).join("\n") + "\n"
                });
                Ok(blocks.collect::<Vec<_>>().join("\n"))
            }
            Self::Markdown => {
                let mut text = markdown_row(names.map(|name| markdown_text(&name)));
                let line =
                    frame.columns().iter().map(|column| if is_number(column) { "---:" } else { "---" });
                let _ = writeln!(text, "| {} |", line.collect::<Vec<_>>().join(" | "));
                let escaped = |row: Vec<String>| markdown_row(row.iter().map(|cell| markdown_text(cell)));
                text.extend(cells(frame, short)?.into_iter().map(escaped));
                Ok(text)
            }
            Self::Csv => {
                let mut text = csv_row(names);
                text.extend(cells(frame, exact)?.into_iter().map(csv_row));
                Ok(text)
            }
            Self::Json => {
                let rows = rows(frame)?.into_iter().map(|row| {
                    let cells = frame.columns().iter().map(|column| column.name().to_string()).zip(row);
                    Value::Object(cells.collect::<Map<_, _>>())
                });
                Ok(indented_json(&Value::Array(rows.collect())))
            }
        }
    }
}

/// The columns of as few tables as fit into lines of a length, the first column in each.
fn blocks(table: &[Vec<String>], length: usize) -> Vec<Vec<usize>> {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut blocks = vec![(0..columns.min(1)).collect::<Vec<_>>()];
    let mut used = if columns > 0 { width(0) } else { 0 };
    for column in 1..columns {
        let more = 2 + width(column);
        match blocks.last_mut() {
            Some(block) if used + more <= length || block.len() == 1 => {
                block.push(column);
                used += more;
            }
            _ => {
                blocks.push(vec![0, column]);
                used = width(0) + more;
            }
        }
    }
    blocks
}

fn rows(frame: &DataFrame) -> Result<Vec<Vec<Value>>, RunsError> {
    let row = |row| frame.columns().iter().map(|column| Ok(value(&column.get(row)?))).collect();
    (0..frame.height()).map(row).collect()
}

fn cells(frame: &DataFrame, write: fn(&Value) -> String) -> Result<Vec<Vec<String>>, RunsError> {
    Ok(rows(frame)?.iter().map(|row| row.iter().map(write).collect()).collect())
}

/// A cell as plain data.
pub(crate) fn value(cell: &AnyValue<'_>) -> Value {
    match cell {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(flag) => (*flag).into(),
        AnyValue::Int64(number) => (*number).into(),
        AnyValue::UInt64(number) => (*number).into(),
        AnyValue::Float64(number) => (*number).into(),
        other => other.get_str().map_or_else(|| other.to_string(), str::to_owned).into(),
    }
}

fn exact(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |number| significant(number, 5))
        }
        other => visible(&exact(other)),
    }
}

/// A number to so many significant digits, without zeros that say nothing: `0.001`, `49.64`, `1.5e-6`.
pub(crate) fn significant(number: f64, digits: i32) -> String {
    if number == 0.0 || !number.is_finite() {
        return format!("{number}");
    }
    let magnitude = number.abs().log10().floor() as i32;
    if !(-4..=12).contains(&magnitude) {
        let text = format!("{number:.*e}", digits.max(1) as usize - 1);
        return match text.split_once('e') {
            Some((mantissa, exponent)) => format!("{}e{exponent}", without_zeros(mantissa)),
            None => text,
        };
    }
    let decimals = (digits - 1 - magnitude).max(0) as usize;
    without_zeros(&format!("{number:.decimals$}")).to_owned()
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

fn is_number(column: &Column) -> bool {
    matches!(column.dtype(), DataType::Int64 | DataType::UInt64 | DataType::Float64)
}

/// A row of comma-separated values (RFC 4180), with its end of line. What a spreadsheet would take for a
/// formula gets an apostrophe in front.
pub(crate) fn csv_row(cells: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let cells = cells.into_iter().map(|cell| {
        let cell = cell.as_ref();
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
        let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
        match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell,
        }
    });
    cells.collect::<Vec<_>>().join(",") + "\n"
}

/// A row of a Markdown table, with its end of line; cells are Markdown.
pub(crate) fn markdown_row(cells: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let cells = cells.into_iter().map(|cell| cell.as_ref().to_owned());
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// A text as Markdown that shows it, in a line, in a table or outside of one.
pub(crate) fn markdown_text(text: &str) -> String {
    let mut escaped = String::new();
    for letter in visible(text).chars() {
        if matches!(letter, '*' | '_' | '`' | '<' | '[' | ']' | '|' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame() -> DataFrame {
        df![
            "run" => ["a|b", "c, d"],
            "metrics.top1" => [Some(49.640_000_1), None],
            "recipe.lr" => [0.001, 1.5e-6],
            "step" => [800_i64, 12_345_678],
            "recipe.frozen" => [Some(true), None],
        ]
        .unwrap()
    }

    #[test]
    fn every_format_shows_every_cell() {
        let print = |format: Format| format.print(&frame(), None).unwrap();
        insta::assert_snapshot!("table", print(Format::Table));
        insta::assert_snapshot!("csv", print(Format::Csv));
        insta::assert_snapshot!("json", print(Format::Json));
        insta::assert_snapshot!("markdown", print(Format::Markdown));
    }

    #[test]
    fn a_table_that_is_too_wide_goes_on_below() {
        let print = |width| Format::Table.print(&frame(), Some(width)).unwrap();
        assert_eq!(print(200), Format::Table.print(&frame(), None).unwrap());
        let narrow = print(32);
        assert!(narrow.lines().all(|line| line.chars().count() <= 32), "{narrow}");
        let expected = "\
run   metrics.top1  recipe.lr
a|b          49.64      0.001
c, d                   1.5e-6

run       step  recipe.frozen
a|b        800  true
c, d  12345678
";
        assert_eq!(narrow, expected);
        assert_eq!(print(1).matches("run ").count(), 4, "a column stays whole");
    }

    #[test]
    fn no_cell_controls_a_terminal_or_breaks_a_row() {
        let frame = df!["run" => ["a\u{1b}[31m\nb<i>\\|"]].unwrap();
        let print = |format: Format| format.print(&frame, None).unwrap();
        assert_eq!(print(Format::Table), "run\na\\u{1b}[31m b<i>\\|\n");
        assert_eq!(print(Format::Markdown), "| run |\n| --- |\n| a\\\\u{1b}\\[31m b\\<i>\\\\\\| |\n");
        let json: Value = serde_json::from_str(&print(Format::Json)).unwrap();
        assert_eq!(json[0]["run"], "a\u{1b}[31m\nb<i>\\|");
    }

    #[test]
    fn no_cell_is_a_formula_of_a_spreadsheet() {
        let row = csv_row(["=cmd|' /C calc'!A0", "+1+2", "@SUM(1)", "-x", "-0.5", "1e-3", "+3", "a=b"]);
        assert_eq!(row, "'=cmd|' /C calc'!A0,'+1+2,'@SUM(1),'-x,-0.5,1e-3,+3,a=b\n");
    }

    #[test]
    fn significant_digits_are_kept_and_no_zeros() {
        for (number, text) in [
            (0.0, "0"),
            (40.0, "40"),
            (-0.000_123_456_78, "-0.00012346"),
            (1.23e-7, "1.23e-7"),
            (123_456.7, "123457"),
            (9.999_999, "10"),
            (1e15, "1e15"),
        ] {
            assert_eq!(significant(number, 5), text);
        }
    }
}
