//! One run directory as a row: names and plain values.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

use crate::recipe;
use crate::report::{ReportError, RunDir, Summary};

/// What a run directory says, by column.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Record(Map<String, Value>);

/// What tells whether the files of a run are still the ones that were read: times and size of the recipe and
/// the summary, and on Unix which files they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(pub String);

impl Stamp {
    pub fn of(directory: &Path) -> Self {
        let file = |name: &str| {
            let about = fs::metadata(directory.join(name)).ok()?;
            let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(format!("{}+{}{}", changed.as_nanos(), about.len(), identity(&about)))
        };
        let files = ["recipe.lock.yaml", "summary.json"].map(|name| file(name).unwrap_or_default());
        Self(files.join(" "))
    }
}

/// Which file it is, and when it was last changed in any way: a time of content can be set, this one cannot.
#[cfg(unix)]
fn identity(about: &fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("+{}+{}.{}", about.ino(), about.ctime(), about.ctime_nsec())
}

/// Only Unix tells.
#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> String {
    String::new()
}

/// Reads a run directory.
///
/// # Errors
/// When its recipe or its summary is broken. A run that has no summary yet is fine.
pub fn read(directory: &Path) -> Result<Record, ReportError> {
    let dir = RunDir::inspect(directory)?;
    let recipe = recipe::lock::parse(&dir.read_recipe()?)
        .map_err(|error| ReportError::format(&dir.recipe(), "resolved recipe", error))?;
    let mut cells = Map::new();
    if dir.summary().is_file() {
        for (name, value) in Summary::read(&dir.summary())?.iter() {
            cells.insert(column_of(name), value.clone());
        }
    }
    for name in ["name", "seed"] {
        if let Some(value) = recipe.get(name).filter(|_| !cells.contains_key(name)) {
            cells.insert(name.to_owned(), value.clone());
        }
    }
    if !cells.contains_key("digest") {
        cells.insert("digest".to_owned(), recipe::lock::digest(&recipe).into());
    }
    cells.extend(recipe::leaves(&recipe).into_iter().map(|(key, value)| (format!("recipe.{key}"), value)));
    Ok(Record(cells))
}

/// The column of a figure of the summary.
fn column_of(name: &str) -> String {
    match name.strip_prefix("val.") {
        Some(metric) => format!("metrics.{metric}"),
        None if name == "recipe_digest" => "digest".to_owned(),
        None => name.to_owned(),
    }
}

impl Record {
    /// How the run stands now: what its summary says may be older than its end.
    pub fn status(&self, directory: &Path) -> String {
        let said = self.0.get("status").and_then(Value::as_str);
        match said {
            Some("finished") => "finished",
            _ if RunDir::is_held(directory) => "running",
            Some("failed") => "failed",
            // Its process is gone, and said nothing at its end.
            _ => "interrupted",
        }
        .to_owned()
    }

    /// The row of the run.
    pub fn into_row(self, name: String, status: String) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("run".to_owned(), name.into());
        row.insert("status".to_owned(), status.into());
        row.extend(self.0.into_iter().filter(|(name, _)| name != "run" && name != "status"));
        row
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_flattened() {
        let root = tempfile::tempdir().unwrap();
        let yaml = "name: a\nseed: 3\noptimizer:\n  betas: [0.9, 0.95]\n  groups: []\nnote: a$${b}\n";
        drop(RunDir::create(root.path(), yaml).unwrap());
        fs::write(root.path().join("summary.json"), r#"{"val.top1": 80.5, "recipe_digest": "ab"}"#).unwrap();
        let record = read(root.path()).unwrap();
        assert_eq!(
            Value::Object(record.0.clone()),
            json!({
                "metrics.top1": 80.5, "digest": "ab", "name": "a", "seed": 3, "recipe.name": "a", "recipe.seed": 3,
                "recipe.optimizer.betas.0": 0.9, "recipe.optimizer.betas.1": 0.95, "recipe.optimizer.groups": "[]",
                "recipe.note": "a${b}",
            })
        );
    }

    #[test]
    fn the_status_is_that_of_now() {
        let root = tempfile::tempdir().unwrap();
        let held = RunDir::create(root.path(), "name: a\n").unwrap();
        assert_eq!(read(root.path()).unwrap().status(root.path()), "running");
        drop(held);
        assert_eq!(read(root.path()).unwrap().status(root.path()), "interrupted");
        for (said, status) in [("running", "interrupted"), ("failed", "failed"), ("finished", "finished")] {
            fs::write(root.path().join("summary.json"), format!(r#"{{"status": "{said}"}}"#)).unwrap();
            assert_eq!(read(root.path()).unwrap().status(root.path()), status, "{said}");
        }
    }

    #[test]
    fn broken_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        drop(RunDir::create(root.path(), "a: [\n").unwrap());
        assert!(read(root.path()).unwrap_err().to_string().contains("is not a valid resolved recipe"));
    }
}
