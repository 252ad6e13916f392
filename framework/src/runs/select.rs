//! Which columns to show, and in which order the rows.

use polars::prelude::*;

use super::RunsError;
use super::columns::absent;

/// The columns that are asked for, in this order; one that ends in `*` stands for all that begin so.
///
/// # Errors
/// When no run has a column, and none may.
pub fn select(frame: &DataFrame, columns: &[String]) -> Result<DataFrame, RunsError> {
    let mut names: Vec<&str> = Vec::new();
    let mut missing = Vec::new();
    for column in columns.iter().map(|column| column.trim()) {
        let matches = |name: &str| match column.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == column,
        };
        let before = names.len();
        let found = frame.columns().iter().map(|column| column.name().as_str()).filter(|name| matches(name));
        let mut is_known = false;
        for name in found {
            is_known = true;
            if !names[..before].contains(&name) {
                names.push(name);
            }
        }
        // Of no runs, no group has a column.
        let is_empty_group = frame.height() == 0 && column.ends_with('*');
        if !is_known && !is_empty_group {
            absent(column, frame).map_err(|help| unknown(column, help))?;
            missing.push(Column::full_null(column.into(), frame.height(), &DataType::String));
            names.push(column);
        }
    }
    let mut frame = frame.clone();
    for column in missing {
        frame.with_column(column)?;
    }
    Ok(frame.select(names)?)
}

/// The rows in the order of these columns, the first one first; `-` in front of a column turns its order round. Runs without the value come
/// last.
///
/// # Errors
/// When no run has a column, and none may.
pub fn sort(frame: &DataFrame, keys: &[String]) -> Result<DataFrame, RunsError> {
    let keys: Vec<_> = keys.iter().map(|key| key.trim()).collect();
    let (names, descending): (Vec<_>, Vec<_>) =
        keys.iter().map(|key| key.strip_prefix('-').map_or((*key, false), |name| (name, true))).unzip();
    for name in names.iter().filter(|name| frame.column(name).is_err()) {
        absent(name, frame).map_err(|help| unknown(name, help))?;
    }
    // By a column that no run has, all are equal.
    let (names, descending): (Vec<_>, Vec<_>) =
        names.into_iter().zip(descending).filter(|(name, _)| frame.column(name).is_ok()).unzip();
    if names.is_empty() {
        return Ok(frame.clone());
    }
    let options = SortMultipleOptions::default()
        .with_order_descending_multi(descending)
        .with_nulls_last_multi(vec![true; names.len()])
        .with_maintain_order(true);
    Ok(frame.sort(names, options)?)
}

fn unknown(name: &str, help: String) -> RunsError {
    RunsError::UnknownColumn { name: name.to_owned(), help }
}

/// What to show when nothing is asked for: how the runs stand, their metrics, and the keys of the recipe in which they differ.
pub fn overview(frame: &DataFrame) -> Result<DataFrame, RunsError> {
    const METRICS: usize = 5;
    const KEYS: usize = 5;
    let has_value = |column: &&Column| column.is_empty() || column.null_count() < column.len();
    let names = |group: &'static str| {
        let columns = frame.columns().iter().filter(has_value);
        columns.filter(move |column| column.name().starts_with(group))
    };
    let fixed = frame.columns().iter().filter(has_value).map(|column| column.name().as_str());
    let fixed = fixed.filter(|name| ["run", "status", "epoch", "seconds"].contains(name));
    let metrics = names("metrics.").take(METRICS).map(|column| column.name().as_str());
    let keys = names("recipe.").filter(|column| differs(column)).map(|column| column.name().as_str());
    let keys = keys.filter(|name| !WORDS.contains(name)).take(KEYS);
    Ok(frame.select(fixed.chain(metrics).chain(keys))?)
}

/// Keys of the recipe that name the run.
const WORDS: [&str; 2] = ["recipe.name", "recipe.description"];

/// Whether two rows have different values.
fn differs(column: &Column) -> bool {
    let first = column.get(0).ok();
    (1..column.len()).any(|row| column.get(row).ok() != first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn runs() -> DataFrame {
        df![
            "run" => ["a", "b", "c"],
            "status" => ["finished", "running", "finished"],
            "metrics.loss" => [Some(2.0), None, Some(1.0)],
            "recipe.name" => ["x", "y", "z"],
            "recipe.seed" => [1_i64, 1, 2],
            "recipe.image_size" => [32_i64, 32, 32],
        ]
        .unwrap()
    }

    fn names(frame: &DataFrame) -> Vec<&str> {
        frame.columns().iter().map(|column| column.name().as_str()).collect()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn columns_are_named_or_matched_once() {
        let shown = select(&runs(), &strings(&["recipe.seed", "recipe.*", "run"])).unwrap();
        assert_eq!(names(&shown), ["recipe.seed", "recipe.name", "recipe.image_size", "run"]);
        let error = select(&runs(), &strings(&["loss"])).unwrap_err();
        assert!(matches!(error, RunsError::UnknownColumn { help, .. } if help.contains("`metrics.loss`")));
    }

    #[test]
    fn the_overview_shows_what_differs() {
        assert_eq!(names(&overview(&runs()).unwrap()), ["run", "status", "metrics.loss", "recipe.seed"]);
    }

    #[test]
    fn rows_without_the_value_come_last_in_both_directions() {
        let order = |keys: &[&str]| {
            let sorted = sort(&runs(), &strings(keys)).unwrap();
            sorted.column("run").unwrap().str().unwrap().iter().flatten().collect::<String>()
        };
        assert_eq!(order(&["metrics.loss"]), "cab");
        assert_eq!(order(&["-metrics.loss"]), "acb");
        assert_eq!(order(&["-recipe.seed", "-run"]), "cba");
        assert!(sort(&runs(), &strings(&["-sede"])).is_err());
    }
}
