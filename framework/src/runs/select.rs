//! Filtering, selecting and sorting a data frame of runs.

use glob::Pattern;
use polars::prelude::*;
use serde_json::Value;

use super::RunsError;
use super::columns::absent;
use super::print::value;
use crate::condition::Test;

/// The rows for which all tests of columns hold.
///
/// # Errors
/// When no run has a column, and none may; or when a test fits no value of its column.
pub fn filter(frame: &DataFrame, tests: &[Test]) -> Result<DataFrame, RunsError> {
    let mut kept = vec![true; frame.height()];
    for test in tests {
        let column = frame.column(&test.key).ok();
        match column {
            Some(column) => check_type(column, test)?,
            None => absent(&test.key, frame).map_err(|help| unknown(&test.key, help))?,
        }
        for (row, kept) in kept.iter_mut().enumerate() {
            let cell = column.map_or(Ok(Value::Null), |column| column.get(row).map(|cell| value(&cell)))?;
            *kept &= test.holds(&[&cell]);
        }
    }
    Ok(frame.filter(&kept.into_iter().collect())?)
}

fn check_type(column: &Column, test: &Test) -> Result<(), RunsError> {
    let kind = match column.dtype() {
        DataType::Int64 | DataType::UInt64 | DataType::Float64 if test.is_of_text() => "numbers",
        DataType::Boolean if test.is_of_text() || test.is_order() => "booleans",
        _ => return Ok(()),
    };
    Err(RunsError::Misfit { name: column.name().to_string(), kind, test: test.to_string() })
}

/// The columns that are asked for, in this order; one with a `*` stands for all that it matches, in which the
/// star may be anything, dots too.
///
/// # Errors
/// When no run has a column, and none may.
pub fn select(frame: &DataFrame, columns: &[String]) -> Result<DataFrame, RunsError> {
    let mut names: Vec<&str> = Vec::new();
    let mut missing = Vec::new();
    for column in columns.iter().map(|column| column.trim()) {
        let pattern = match column.contains('*') {
            true => Some(Pattern::new(column).map_err(|error| unknown(column, error.to_string()))?),
            false => None,
        };
        let matches = |name: &str| pattern.as_ref().map_or(name == column, |pattern| pattern.matches(name));
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
        let is_empty_group = frame.height() == 0 && pattern.is_some();
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

/// The rows in the order of these columns, the first one first; `-` in front of a column turns its order
/// round. Runs without the value come last.
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
    fn a_star_is_anything_anywhere() {
        let shown = select(&runs(), &strings(&["*.*e*", "r?n"])).unwrap_err();
        assert!(matches!(shown, RunsError::UnknownColumn { name, .. } if name == "r?n"));
        let shown = select(&runs(), &strings(&["*e*.*e*"])).unwrap();
        assert_eq!(names(&shown), ["recipe.name", "recipe.seed", "recipe.image_size"]);
        assert!(select(&runs(), &strings(&["a**"])).is_err());
    }

    #[test]
    fn rows_are_kept_for_which_all_tests_hold() {
        let kept = |tests: &[&str]| {
            let tests: Vec<Test> = tests.iter().map(|test| test.parse().unwrap()).collect();
            let kept = filter(&runs(), &tests)?;
            Ok::<_, RunsError>(kept.column("run")?.str()?.iter().flatten().collect::<String>())
        };
        for (tests, expected) in [
            (&["metrics.loss > 1"][..], "a"),
            (&["metrics.loss <= 2", "status = finished"], "ac"),
            (&["metrics.loss = null"], "b"),
            (&["train.images_per_s = null", "recipe.seed != 2"], "ab"),
            (&["recipe.name = [x, z]"], "ac"),
            (&["status = fin*"], "ac"),
            (&["status = 3"], ""),
            (&[], "abc"),
        ] {
            assert_eq!(kept(tests).unwrap(), expected, "{tests:?}");
        }
        for (test, message) in [
            ("loss > 1", "no run has the column `loss`"),
            ("metrics.loss = high", "`metrics.loss` holds numbers: `metrics.loss = \"high\"` means nothing"),
        ] {
            assert_eq!(kept(&[test]).unwrap_err().to_string(), message);
        }
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
