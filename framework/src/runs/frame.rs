//! Rows of names and values as a frame of typed columns.

use std::collections::HashMap;

use polars::prelude::*;
use serde_json::{Map, Value};

/// The columns that come first, in this order; then those of the summary, the metrics, and the recipe.
const FIRST: [&str; 9] = ["run", "status", "name", "seed", "step", "epoch", "seconds", "parameters", "gmacs"];

/// A frame with a column for every name. A column of numbers is of integers or floats, one of booleans is boolean, everything else is
/// text; a run without the value has null.
pub fn frame(rows: &[Map<String, Value>]) -> PolarsResult<DataFrame> {
    let mut names: Vec<&str> = Vec::new();
    let mut columns: Vec<Vec<&Value>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (row, cells) in rows.iter().enumerate() {
        for (name, value) in cells {
            let place = *places.entry(name).or_insert_with(|| {
                names.push(name);
                columns.push(vec![&Value::Null; rows.len()]);
                names.len() - 1
            });
            columns[place][row] = value;
        }
    }
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&place| rank(names[place]));
    let columns = order.into_iter().map(|place| column(names[place], &columns[place]));
    DataFrame::new(rows.len(), columns.collect())
}

/// Where a column stands; those of one rank as they were found.
fn rank(name: &str) -> usize {
    let groups = ["metrics.", "train.", "recipe."];
    match FIRST.iter().position(|first| *first == name) {
        Some(position) => position,
        None => {
            FIRST.len() + groups.iter().position(|group| name.starts_with(group)).map_or(0, |group| group + 1)
        }
    }
}

fn column(name: &str, values: &[&Value]) -> Column {
    let mut present = values.iter().filter(|value| !value.is_null()).peekable();
    let none = present.peek().is_none();
    let name = PlSmallStr::from_str(name);
    if !none && present.clone().all(|value| value.is_i64()) {
        return Column::new(name, values.iter().map(|value| value.as_i64()).collect::<Vec<_>>());
    }
    if !none && present.clone().all(|value| value.is_number()) {
        return Column::new(name, values.iter().map(|value| value.as_f64()).collect::<Vec<_>>());
    }
    if !none && present.all(|value| value.is_boolean()) {
        return Column::new(name, values.iter().map(|value| value.as_bool()).collect::<Vec<_>>());
    }
    let text = values.iter().map(|value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    });
    Column::new(name, text.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn columns_have_the_type_of_their_values_and_the_usual_order() {
        let rows = [
            json!({ "recipe.a": 1, "metrics.top1": 80, "run": "x", "status": "finished", "seed": 1, "best": null }),
            json!({ "recipe.a": "auto", "metrics.top1": 80.5, "run": "y", "flag": true }),
        ];
        let rows: Vec<_> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        let frame = frame(&rows).unwrap();
        let columns: Vec<_> = frame
            .columns()
            .iter()
            .map(|column| (column.name().as_str(), column.dtype().to_string()))
            .collect();
        let expected = [
            ("run", "str"),
            ("status", "str"),
            ("seed", "i64"),
            ("best", "str"),
            ("flag", "bool"),
            ("metrics.top1", "f64"),
            ("recipe.a", "str"),
        ];
        assert_eq!(columns, expected.map(|(name, kind)| (name, kind.to_owned())));
        assert_eq!(frame.column("recipe.a").unwrap().str().unwrap().get(0), Some("1"));
        assert_eq!(frame.column("seed").unwrap().null_count(), 1);
    }

    #[test]
    fn no_runs_are_an_empty_frame() {
        assert_eq!(frame(&[]).unwrap().shape(), (0, 0));
    }
}
