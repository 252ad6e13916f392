//! Steps and time of the runs, by a short benchmark of each different model.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::SweepError;
use super::command::{arguments, program};
use super::local::threads;
use super::plan::{Plan, PlannedRun};
use super::state::RunState;
use crate::component::Dataset;
use crate::engine::TrainingPlan;

impl Plan {
    /// Optimizer steps of every run. Those of a length in epochs depend on the size of the training set,
    /// which is opened, and are not known where it cannot be.
    pub fn steps(&self) -> Vec<Option<u64>> {
        let mut sizes: HashMap<String, Option<usize>> = HashMap::new();
        let steps = |run: &PlannedRun| {
            run.train.iterations().or_else(|| {
                let size = *sizes.entry(run.dataset.to_string()).or_insert_with(|| size(run));
                TrainingPlan::of(&run.train, size?, run.batch_size).map(|plan| plan.steps)
            })
        };
        self.runs.iter().map(steps).collect()
    }

    /// Seconds of training of every run, evaluation and pictures not counted; `None` where the number of
    /// steps is not known, and for runs that are finished. `jobs` runs share the cores of the machine.
    pub fn estimate(&self, steps: &[Option<u64>], jobs: usize) -> Result<Vec<Option<f64>>, SweepError> {
        let mut known: HashMap<&str, f64> = HashMap::new();
        let mut seconds = Vec::new();
        for (run, steps) in self.runs.iter().zip(steps) {
            let Some(steps) = steps.filter(|_| run.state() != RunState::Finished) else {
                seconds.push(None);
                continue;
            };
            if !known.contains_key(run.cost.as_str()) {
                tracing::info!("timing {}", run.name);
                known.insert(&run.cost, seconds_per_image(run, jobs)?);
            }
            let per_image = known[run.cost.as_str()];
            seconds.push(Some(per_image * run.images_per_step as f64 * steps as f64));
        }
        Ok(seconds)
    }
}

fn size(run: &PlannedRun) -> Option<usize> {
    let dataset: Box<dyn Dataset> = serde_json::from_value(run.dataset.clone()).ok()?;
    dataset.open().map(|samples| samples.len()).ok()
}

/// In a process of its own, with as many threads as a run has.
fn seconds_per_image(run: &PlannedRun, jobs: usize) -> Result<f64, SweepError> {
    let fail = |reason: String| SweepError::Estimate { run: run.name.clone(), reason };
    let output = Command::new(program()?)
        .args(arguments("bench", &run.sources))
        .args(["--steps", "3", "--warmup", "1", "--json"])
        .env("RAYON_NUM_THREADS", threads(jobs).to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        return Err(fail(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| fail(error.to_string()))?;
    let speeds = [&report["images_per_s"], &report["data"]["images_per_s"]];
    // The slower of training and loading decides.
    let speed = speeds.into_iter().filter_map(Value::as_f64).fold(f64::INFINITY, f64::min);
    if speed > 0.0 { Ok(1.0 / speed) } else { Err(fail("it takes no step".to_owned())) }
}
