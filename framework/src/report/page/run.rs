//! What a run directory says of its run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recipe::lock;
use crate::report::{
    ClassTable, Details, Environment, FeatureMap, MetricLog, PictureSet, PictureStore, ReportError, RunDir,
    Summary,
};

/// Sets of pictures on the page of a single run, spread over it.
const PICTURE_SETS: usize = 6;

/// A run of the page.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// By what it is told from the others.
    pub(super) label: String,
    /// The resolved recipe, as it is written.
    pub(super) recipe_yaml: String,
    /// The resolved recipe.
    pub(super) recipe: Value,
    /// Empty for one that has written none yet.
    pub(super) summary: Summary,
    /// Empty for one that has written none yet.
    pub(super) metrics: MetricLog,
    /// `None` where no class was measured by itself.
    pub(super) classes: Option<ClassTable>,
    /// `None` where no features were measured.
    pub(super) features: Option<FeatureMap>,
    /// Of a run beside others, the last ones only.
    pub(super) pictures: Vec<PictureSet>,
    /// Empty for one that has not recorded them.
    pub(super) details: Details,
    /// `None` for a run that has not recorded it.
    pub(super) environment: Option<Environment>,
}

impl Run {
    /// Reads the run in `dir`, which may go on meanwhile: files that it writes later may be missing, and each
    /// is whole.
    pub(super) fn read(
        dir: &RunDir,
        summary: Summary,
        label: String,
        is_alone: bool,
    ) -> Result<Self, ReportError> {
        let metrics = optional(&dir.metrics(), MetricLog::open)?.unwrap_or_default();
        let recipe_yaml = dir.read_recipe()?;
        let recipe =
            lock::parse(&recipe_yaml).map_err(|error| ReportError::format(&dir.recipe(), "recipe", error))?;
        let sets = if is_alone { PICTURE_SETS } else { 1 };
        Ok(Self {
            label,
            recipe_yaml,
            recipe,
            summary,
            metrics,
            classes: lenient(optional(&dir.classes(), ClassTable::read)).flatten(),
            features: lenient(optional(&dir.features(), FeatureMap::read)).flatten(),
            pictures: lenient(pictures(dir, sets)).unwrap_or_default(),
            details: lenient(optional(&dir.details(), Details::read)).flatten().unwrap_or_default(),
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

/// What `summary.json` says so far.
pub(super) fn summary(dir: &RunDir) -> Result<Summary, ReportError> {
    Ok(optional(&dir.summary(), Summary::read)?.unwrap_or_default())
}

fn optional<T>(path: &Path, read: fn(&Path) -> Result<T, ReportError>) -> Result<Option<T>, ReportError> {
    path.is_file().then(|| read(path)).transpose()
}

fn pictures(dir: &RunDir, sets: usize) -> Result<Vec<PictureSet>, ReportError> {
    if !dir.pictures().is_dir() {
        return Ok(Vec::new());
    }
    PictureStore::new(dir.pictures()).overview(sets)
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
