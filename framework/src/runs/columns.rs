//! Column names: which may be absent, and what was meant by an unknown one.

use polars::frame::DataFrame;

use crate::recipe::{list, nearest};

/// Columns that a run may have, besides the groups.
const PLAIN: [&str; 14] = [
    "run",
    "status",
    "name",
    "seed",
    "step",
    "epoch",
    "seconds",
    "parameters",
    "gmacs",
    "best",
    "corrupt_samples",
    "digest",
    "git_commit",
    "stopped_early",
];
const GROUPS: [&str; 3] = ["metrics.", "train.", "recipe."];

/// Whether a column that is not there is one that no run has yet, and so null for all of them. It is not if
/// the runs have one with a similar name, which is more likely meant.
///
/// # Errors
/// What to say instead.
pub fn absent(name: &str, frame: &DataFrame) -> Result<(), String> {
    let in_group = GROUPS.iter().any(|group| name.len() > group.len() && name.starts_with(group));
    let columns = frame.columns().iter().map(|column| column.name().as_str());
    if PLAIN.contains(&name) || in_group && (frame.height() == 0 || nearest(name, columns).is_none()) {
        return Ok(());
    }
    match nearest(name, PLAIN).filter(|_| frame.height() == 0) {
        Some(near) => Err(format!("did you mean `{near}`?")),
        None => Err(similar_column(name, frame)),
    }
}

/// What to say of a column that is not there.
fn similar_column(name: &str, frame: &DataFrame) -> String {
    let names = || frame.columns().iter().map(|column| column.name().as_str());
    let is_last = |column: &&str| column.rsplit('.').next() == Some(name);
    if let Some(near) = names().find(is_last).or_else(|| nearest(name, names())) {
        return format!("did you mean `{near}`?");
    }
    let plain = names().filter(|column| !column.starts_with("recipe."));
    format!("columns are {}, and `recipe.` with a key of the recipe", list(plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use polars::prelude::*;

    use super::*;

    #[test]
    fn a_column_that_no_run_has_yet_is_told_from_a_mistake() {
        let none = df!["run" => Vec::<&str>::new()].unwrap();
        let runs = df!["run" => ["a"], "metrics.top1" => [80.0]].unwrap();
        for (name, frame, advice) in [
            ("metrics.top", &none, None),
            ("recipe.optimizer.lr", &runs, None),
            ("git_commit", &runs, None),
            ("metrics.top", &runs, Some("`metrics.top1`")),
            ("top1", &runs, Some("`metrics.top1`")),
            ("metrics.", &runs, Some("metrics.top1")),
            ("sede", &none, Some("`seed`")),
        ] {
            let said = absent(name, frame).err();
            let fits = match (&said, advice) {
                (None, None) => true,
                (Some(said), Some(advice)) => said.contains(advice),
                _ => false,
            };
            assert!(fits, "{name}: {said:?}");
        }
    }
}
