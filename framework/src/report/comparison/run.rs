//! What a run directory says of its run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recipe::lock;
use crate::report::{Environment, MetricLog, PictureSet, PictureStore, ReportError, RunDir, Summary};

/// A run to be compared.
#[derive(Debug)]
pub(super) struct Run {
    /// By what it is told from the others.
    pub(super) label: String,
    /// The resolved recipe.
    pub(super) recipe: Value,
    /// Empty for one that has written none yet.
    pub(super) summary: Summary,
    /// Empty for one that has written none yet.
    pub(super) metrics: MetricLog,
    /// The last ones.
    pub(super) pictures: Option<PictureSet>,
    /// `None` for a run that has not recorded it.
    pub(super) environment: Option<Environment>,
}

impl Run {
    /// Reads the run at `root`, which may go on meanwhile: files that it writes later may be missing, and each is whole.
    pub(super) fn read(root: &Path, label: String) -> Result<Self, ReportError> {
        let dir = RunDir::inspect(root)?;
        let metrics = optional(&dir.metrics(), MetricLog::open)?.unwrap_or_default();
        let summary = optional(&dir.summary(), Summary::read)?.unwrap_or_default();
        let recipe = read_recipe(&dir.recipe())?;
        Ok(Self {
            label,
            recipe,
            summary,
            metrics,
            pictures: lenient(last_pictures(&dir)).flatten(),
            environment: lenient(optional(&dir.environment(), Environment::read)).flatten(),
        })
    }

    /// A number of the summary.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.summary.get(name).and_then(Value::as_f64)
    }

    /// `finished`, `running`, ..: as it last said itself.
    pub(super) fn status(&self) -> &str {
        self.summary.get("status").and_then(Value::as_str).unwrap_or("started")
    }

    /// The experiment's name.
    pub(super) fn name(&self) -> &str {
        self.recipe.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

fn read_recipe(path: &Path) -> Result<Value, ReportError> {
    let text = fs::read_to_string(path).map_err(ReportError::io("read", path))?;
    lock::parse(&text).map_err(|error| ReportError::format(path, "recipe", error))
}

fn optional<T>(path: &Path, read: fn(&Path) -> Result<T, ReportError>) -> Result<Option<T>, ReportError> {
    path.is_file().then(|| read(path)).transpose()
}

fn last_pictures(dir: &RunDir) -> Result<Option<PictureSet>, ReportError> {
    if !dir.pictures().is_dir() {
        return Ok(None);
    }
    let store = PictureStore::new(dir.pictures());
    store.steps()?.last().map(|&step| store.load(step)).transpose()
}

/// What only illustrates is no reason to leave out a run.
fn lenient<T>(read: Result<T, ReportError>) -> Option<T> {
    read.map_err(|fault| tracing::warn!("{fault}; left out of the report")).ok()
}

/// Short names that tell the directories apart: their paths below what all of them have in common.
pub(super) fn labels(roots: &[PathBuf]) -> Vec<String> {
    let absolute: Vec<PathBuf> =
        roots.iter().map(|root| root.canonicalize().unwrap_or_else(|_| root.clone())).collect();
    let parent = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let common = absolute.iter().map(|path| parent(path)).reduce(|common, path| {
        let shared = common.components().zip(path.components()).take_while(|(a, b)| a == b);
        shared.map(|(component, _)| component).collect()
    });
    let common = common.unwrap_or_default();
    absolute.iter().map(|path| path.strip_prefix(&common).unwrap_or(path).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_leave_out_what_all_have_in_common() {
        let of = |roots: &[&str]| labels(&roots.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["/gone/runs/a", "/gone/runs/few/b"]), ["a", "few/b"]);
        assert_eq!(of(&["/gone/runs/a"]), ["a"]);
        assert_eq!(of(&["/gone/a", "/gone/a/b"]), ["a", "a/b"]);
    }
}
