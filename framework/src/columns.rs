//! Aligned columns of text.

/// Rows as lines: two spaces between columns, numbers to the right, nothing behind the last cell.
pub(crate) fn aligned<R: AsRef<[String]>>(rows: &[R], is_number: impl Fn(usize) -> bool) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &R| {
        let cells = row.as_ref().iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match is_number(column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_and_words_begin_under_each_other() {
        let rows = [["name", "n", "note"], ["é", "12", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, |column| column == 1), ["name   n  note", "é     12"]);
        assert!(aligned::<[String; 1]>(&[], |_| true).is_empty());
    }
}
