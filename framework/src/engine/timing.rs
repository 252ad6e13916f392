//! How long a step of a recipe takes on this machine, as `bench` has found it last.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::bench::{BenchReport, DataSpeed};
use super::train::TrainingPlan;
use crate::experiment::Experiment;
use crate::recipe::Recipe;
use crate::weights::atomic;

/// What `bench` has found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timing {
    /// Images of the steps that were timed.
    pub batch_size: usize,
    /// The median of their seconds.
    pub seconds_per_step: f64,
    /// Images that are loaded in a second, if they were there.
    pub loaded_per_s: Option<f64>,
}

impl Timing {
    /// Of a measurement.
    pub fn of(report: &BenchReport) -> Self {
        Self {
            batch_size: report.batch_size,
            seconds_per_step: report.seconds_per_step.median,
            loaded_per_s: match report.data {
                DataSpeed::ImagesPerS(speed) => Some(speed),
                DataSpeed::NotMeasured(_) => None,
            },
        }
    }

    /// Seconds of an image: of the slower of training and loading.
    pub fn seconds_per_image(&self) -> f64 {
        let training = self.seconds_per_step / self.batch_size as f64;
        self.loaded_per_s.map_or(training, |speed| training.max(1.0 / speed))
    }
}

/// What is known of the step of a recipe on this machine.
pub fn recall(recipe: &Recipe) -> Option<Timing> {
    serde_json::from_str(&std::fs::read_to_string(file(recipe)?).ok()?).ok()
}

/// Seconds of the training of a recipe on this machine: of the slower of training and loading, evaluation not counted. `None` where
/// nothing has timed its steps, or its length is in epochs of data that cannot be opened.
pub fn training_seconds(recipe: &Recipe, experiment: &Experiment) -> Option<f64> {
    let timing = recall(recipe)?;
    let (train, data) = (&experiment.train, &experiment.data.train);
    let steps = train.iterations().or_else(|| {
        let samples = data.dataset.open().ok()?.len();
        TrainingPlan::of(train, samples, data.batch_size).map(|plan| plan.steps)
    })?;
    Some(timing.seconds_per_image() * (data.batch_size * train.accumulate) as f64 * steps as f64)
}

/// Keeps what was found for those who ask. Nothing depends on it: where it cannot be written, nothing is kept.
pub fn remember(recipe: &Recipe, timing: &Timing) {
    let Some(path) = file(recipe) else { return };
    let folder = path.parent().map(std::fs::create_dir_all);
    if !matches!(folder, Some(Ok(()))) || atomic::write_json(&path, timing).is_err() {
        tracing::debug!("cannot write {}", path.display());
    }
}

/// `~/.cache/convmae/bench/DIGEST.json`, of what decides about the time of a step.
fn file(recipe: &Recipe) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let processor = system.cpus().first().map(|cpu| cpu.brand().to_owned()).unwrap_or_default();
    let threads = rayon::current_num_threads().to_string();
    let parts = [&cost(recipe), &processor, &threads, env!("CARGO_PKG_VERSION")];
    let digest = blake3::hash(parts.join("\n").as_bytes()).to_hex();
    Some(cache.join("convmae/bench").join(format!("{}.json", &digest[..32])))
}

/// What of a recipe decides about the time of a step, as text.
pub fn cost(recipe: &Recipe) -> String {
    let blocks = ["model", "image_size", "device", "data.train", "optimizer", "train"];
    let blocks =
        blocks.map(|key| without_free_keys(recipe.get(key).cloned().unwrap_or_default()).to_string());
    blocks.join("\n")
}

/// A block without what does not change the time of a step.
fn without_free_keys(mut block: Value) -> Value {
    if let Some(map) = block.as_object_mut() {
        for key in ["length", "log_every", "lr", "weight_decay", "betas"] {
            map.remove(key);
        }
        if let Some(dataset) = map.get_mut("dataset").and_then(Value::as_object_mut) {
            dataset.remove("seed");
        }
    }
    block
}
