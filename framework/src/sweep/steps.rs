//! How many steps the runs of a sweep take.

use std::collections::HashMap;

use crate::component::{Dataset, Span};
use crate::engine::TrainingPlan;

use super::plan::{Plan, PlannedRun};

impl Plan {
    /// Optimizer steps of every run. Those of a length in epochs depend on the size of the training set, which is opened, and are
    /// not known where it cannot be.
    pub fn steps(&self) -> Vec<Option<u64>> {
        let mut sizes: HashMap<String, Option<usize>> = HashMap::new();
        let steps = |run: &PlannedRun| match run.length {
            Span::Iterations(steps) => Some(steps),
            Span::Epochs(_) => {
                let size = *sizes.entry(run.dataset.to_string()).or_insert_with(|| size(run));
                let batches = size? / run.batch_size;
                TrainingPlan::new(batches, run.batch_size, run.accumulate, run.length).map(|plan| plan.steps)
            }
        };
        self.runs.iter().map(steps).collect()
    }
}

fn size(run: &PlannedRun) -> Option<usize> {
    let dataset: Box<dyn Dataset> = serde_json::from_value(run.dataset.clone()).ok()?;
    dataset.open().map(|samples| samples.len()).ok()
}
