//! Records of runs as a data frame of typed columns.

use std::collections::HashMap;

use polars::prelude::*;
use serde_json::{Map, Value};

/// The columns that come first, in this order; then those of the summary, the metrics, and the recipe.
const FIRST: [&str; 9] = ["run", "status", "name", "seed", "step", "epoch", "seconds", "parameters", "gmacs"];

/// A frame with a column for every name. A column of numbers is of integers or floats, one of booleans is
/// boolean, everything else is text, as are integers that no type holds together; a run without the value has
/// null. Of no runs there are the columns `run` and `status`.
pub fn frame(rows: &[Map<String, Value>]) -> PolarsResult<DataFrame> {
    if rows.is_empty() {
        return DataFrame::new(0, ["run", "status"].map(|name| column(name, &[])).into());
    }
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
    if !none && present.clone().all(|value| value.is_u64()) {
        return Column::new(name, values.iter().map(|value| value.as_u64()).collect::<Vec<_>>());
    }
    let is_integer = |value: &&&Value| value.is_i64() || value.is_u64();
    if !none
        && !present.clone().all(|value| is_integer(&value))
        && present.clone().all(|value| value.is_number())
    {
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
    fn integers_stay_exact() {
        for (values, kind, last) in [
            (json!([1, u64::MAX]), "u64", u64::MAX.to_string()),
            (json!([-1, u64::MAX]), "str", u64::MAX.to_string()),
            (json!([-1, i64::MAX]), "i64", i64::MAX.to_string()),
            (json!([1.5, 2]), "f64", "2.0".to_owned()),
        ] {
            let rows: Vec<_> =
                values.as_array().unwrap().iter().map(|seed| json!({ "seed": seed })).collect();
            let rows: Vec<_> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
            let frame = frame(&rows).unwrap();
            let column = frame.column("seed").unwrap();
            assert_eq!(column.dtype().to_string(), kind);
            assert_eq!(column.get(1).unwrap().to_string().replace('"', ""), last);
        }
    }

    #[test]
    fn no_runs_are_two_columns_without_rows() {
        assert_eq!(frame(&[]).unwrap().shape(), (0, 2));
    }
}
