//! What a run directory says of its run.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::direction::more_is_better;
use super::summary::validated;
use crate::recipe::lock;
use crate::report::{
    BestMetric, ClassTable, ConfusionTable, Details, Environment, FeatureMap, MetricLog, PictureSet,
    PictureStore, ReportError, RunDir, Split, Summary,
};

/// Runs that start from runs are followed so far.
const DEPTH: usize = 8;
/// Sets of pictures on the page of a single run, spread over it.
const PICTURE_SETS: usize = 6;

/// A run of the page.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// By what it is told from the others.
    pub(super) label: String,
    /// The entry of the legend whose colour it has: its variant.
    pub(super) entry: usize,
    /// The resolved recipe, as it is written.
    pub(super) recipe_yaml: String,
    /// The resolved recipe.
    pub(super) recipe: Value,
    /// The same with those of the runs that it starts from in the place of their directories, as far as they are there.
    pub(super) lineage: Value,
    /// Empty for one that has written none yet.
    pub(super) summary: Summary,
    /// Empty for one that has written none yet.
    pub(super) metrics: MetricLog,
    /// `None` where no class was measured by itself.
    pub(super) classes: Option<ClassTable>,
    /// `None` where no images were classified.
    pub(super) confusion: Option<ConfusionTable>,
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
        let details = lenient(optional(&dir.details(), Details::read)).flatten().unwrap_or_default();
        let best_step = best_step(&details, &metrics);
        Ok(Self {
            label,
            entry: 0,
            lineage: lineage(recipe.clone(), DEPTH),
            recipe_yaml,
            recipe,
            summary,
            metrics,
            classes: lenient(optional(&dir.classes(), ClassTable::read)).flatten(),
            confusion: lenient(optional(&dir.confusion(), ConfusionTable::read)).flatten(),
            features: lenient(optional(&dir.features(), FeatureMap::read)).flatten(),
            pictures: lenient(pictures(dir, sets, best_step)).unwrap_or_default(),
            details,
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
        self.text("name")
    }

    /// What the recipe says of itself.
    pub(super) fn description(&self) -> &str {
        self.text("description").trim()
    }

    fn text(&self, key: &str) -> &str {
        self.recipe.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The metric by which it is compared with others, and whether more of it is better: the one that decided, or what its
    /// summary tells.
    pub(super) fn deciding(&self) -> Option<(&str, bool)> {
        if let Some(best) = &self.details.best {
            return Some((&best.name, best.more_is_better));
        }
        validated([self]).into_iter().find_map(|name| Some((name, more_is_better(name)?)))
    }

    /// The step of the evaluation whose checkpoint is the best.
    pub(super) fn best_step(&self) -> Option<u64> {
        best_step(&self.details, &self.metrics)
    }
}

/// A recipe with those of the runs that it starts from.
fn lineage(mut recipe: Value, depth: usize) -> Value {
    let Some(upstream) = recipe.pointer_mut("/init_from/run").filter(|_| depth > 0) else { return recipe };
    let read = |root: &str| lock::parse(&RunDir::inspect(Path::new(root)).ok()?.read_recipe().ok()?).ok();
    if let Some(of_upstream) = upstream.as_str().and_then(read) {
        *upstream = lineage(of_upstream, depth - 1);
    }
    recipe
}

/// The first step at which the metric that decides is best.
fn best_step(details: &Details, metrics: &MetricLog) -> Option<u64> {
    let BestMetric { name, more_is_better } = details.best.as_ref()?;
    let is_better = |value: f64, best: f64| if *more_is_better { value > best } else { value < best };
    let points = metrics.series(Split::Val, name).into_iter().filter(|point| point.value.is_finite());
    points
        .reduce(|best, point| if is_better(point.value, best.value) { point } else { best })
        .map(|best| best.step)
}

/// What `summary.json` says so far.
pub(super) fn summary(dir: &RunDir) -> Result<Summary, ReportError> {
    Ok(optional(&dir.summary(), Summary::read)?.unwrap_or_default())
}

fn optional<T>(path: &Path, read: fn(&Path) -> Result<T, ReportError>) -> Result<Option<T>, ReportError> {
    path.is_file().then(|| read(path)).transpose()
}

fn pictures(dir: &RunDir, sets: usize, best: Option<u64>) -> Result<Vec<PictureSet>, ReportError> {
    if !dir.pictures().is_dir() {
        return Ok(Vec::new());
    }
    PictureStore::new(dir.pictures()).overview(sets, best)
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
