//! Schedules: the learning rate over time.

use super::registry::slot_schema;

/// The learning rate as a function of progress.
#[typetag::serde(tag = "type")]
pub trait Schedule: std::fmt::Debug + Send + Sync {
    /// The learning rate of a step, from the base learning rate.
    fn lr(&self, base: f64, at: Progress) -> f64;
}

slot_schema!(Schedule);

/// Where a training run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Epochs in all.
    pub epochs: f64,
    /// Optimizer steps done.
    pub step: u64,
    /// Optimizer steps in all.
    pub steps: u64,
}

impl Progress {
    /// Optimizer steps of an epoch.
    pub fn steps_per_epoch(&self) -> f64 {
        self.steps as f64 / self.epochs
    }
}
