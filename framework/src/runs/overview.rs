//! What to show of runs when nothing is asked for.

use polars::prelude::*;

use super::RunsError;
use super::size::{CHECKPOINTS, SIZE};
use crate::recipe::short_key;

/// Keys of the recipe that name the run.
const WORDS: [&str; 2] = ["recipe.name", "recipe.description"];

/// How the runs stand, their metrics, and all keys of the recipe in which they differ.
///
/// # Errors
/// When the table cannot be put together.
pub fn overview(frame: &DataFrame) -> Result<DataFrame, RunsError> {
    const METRICS: usize = 5;
    let has_value = |column: &&Column| column.is_empty() || column.null_count() < column.len();
    let names = |group: &'static str| {
        let columns = frame.columns().iter().filter(has_value);
        columns.filter(move |column| column.name().starts_with(group))
    };
    let fixed = frame.columns().iter().filter(has_value).map(|column| column.name().as_str());
    let fixed = fixed.filter(|name| ["run", "status", "epoch", "seconds", SIZE, CHECKPOINTS].contains(name));
    let metrics = names("metrics.").take(METRICS).map(|column| column.name().as_str());
    let keys = names("recipe.").filter(|column| differs(column)).map(|column| column.name().as_str());
    let keys = keys.filter(|name| !WORDS.contains(name));
    Ok(frame.select(fixed.chain(metrics).chain(keys))?)
}

/// The same columns under the shortest names that tell them apart: `lr` for `recipe.optimizer.lr`.
///
/// # Errors
/// When the table cannot be put together.
pub fn with_short_names(frame: &DataFrame) -> Result<DataFrame, RunsError> {
    let names: Vec<&str> = frame.columns().iter().map(|column| column.name().as_str()).collect();
    let short: Vec<String> = names.iter().map(|name| short_key(name, &names)).collect();
    let mut renamed = frame.clone();
    renamed.set_column_names(&short)?;
    Ok(renamed)
}

/// Whether two rows have different values.
fn differs(column: &Column) -> bool {
    let first = column.get(0).ok();
    (1..column.len()).any(|row| column.get(row).ok() != first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(frame: &DataFrame) -> Vec<&str> {
        frame.columns().iter().map(|column| column.name().as_str()).collect()
    }

    #[test]
    fn every_key_that_differs_is_shown_by_its_shortest_name() {
        let mut columns = vec![
            Column::new("run".into(), ["a", "b"]),
            Column::new("status".into(), ["finished", "finished"]),
            Column::new("step".into(), [1_i64, 2]),
            Column::new("metrics.loss".into(), [0.5, 0.25]),
            Column::new("recipe.name".into(), ["a", "b"]),
            Column::new("recipe.same".into(), [1_i64, 1]),
        ];
        let keys = [
            "seed",
            "optimizer.lr",
            "model.mask.type",
            "model.head.type",
            "data.train.size",
            "data.val.size",
        ];
        columns.extend(keys.map(|key| Column::new(format!("recipe.{key}").into(), [1_i64, 2])));
        let frame = DataFrame::new(2, columns).unwrap();
        let shown = overview(&frame).unwrap();
        assert_eq!(shown.width(), 3 + keys.len());
        let short = with_short_names(&shown).unwrap();
        let expected = ["run", "status", "loss", "seed", "lr", "mask", "head", "train.size", "val.size"];
        assert_eq!(names(&short), expected);
    }
}
