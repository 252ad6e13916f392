//! Comma-separated values, with every digit.

use crate::runs::csv_row;
use crate::table::paired::PairedDifference;
use crate::table::sheet::{Cell, Content, Heading, Sheet};

pub fn render(sheet: &Sheet, sources: bool) -> String {
    let names = sheet.columns.iter().flat_map(|column| {
        let parts = parts(column).map(|part| format!("{} {part}", column.name));
        std::iter::once(column.name.clone()).chain(parts)
    });
    let mut text = csv_row(names.chain(sources.then(|| "sources".to_owned())));
    for (at, row) in sheet.rows.iter().enumerate() {
        let values = row.iter().zip(&sheet.columns).flat_map(|(cell, column)| {
            let parts = parts(column).map(|part| value(cell, part));
            std::iter::once(value(cell, "")).chain(parts)
        });
        let of_row = sheet.sources.iter().filter(|source| source.row == at);
        let of_row = of_row.map(|source| format!("{} {}", source.directory, source.digest));
        let cell = sources.then(|| of_row.collect::<Vec<_>>().join("; "));
        text += &csv_row(values.chain(cell));
    }
    text
}

/// What a column has besides its values.
fn parts(column: &Heading) -> impl Iterator<Item = &'static str> {
    let measured = column.measured.then_some(["std", "n"]);
    let paired = column.paired.then_some(["low", "high", "n"]);
    let quoted = column.quoted.then_some(["paper", "difference"]);
    let measured = measured.into_iter().chain(quoted).flatten();
    paired.into_iter().flatten().chain(measured)
}

fn value(cell: &Cell, part: &str) -> String {
    if let Some(Content::Paired(PairedDifference { mean, interval, n })) = cell.ours {
        let [low, high] = interval.map_or([None; 2], |ends| ends.map(Some));
        let number = match part {
            "n" => return n.to_string(),
            "low" => low,
            "high" => high,
            _ => Some(mean),
        };
        return text(number);
    }
    let figure = match &cell.ours {
        Some(Content::Figure(figure)) => Some(figure),
        _ => None,
    };
    text(match (part, &cell.ours) {
        ("", Some(Content::Text(text))) => return text.clone(),
        ("n", _) => return figure.map(|figure| figure.n.to_string()).unwrap_or_default(),
        ("", Some(Content::Difference(difference))) => Some(*difference),
        ("", _) => figure.map(|figure| figure.mean),
        ("std", _) => figure.and_then(|figure| figure.std),
        ("paper", _) => cell.paper,
        _ => cell.difference(),
    })
}

fn text(number: Option<f64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
