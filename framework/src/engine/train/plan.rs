//! How a run is divided into epochs, optimizer steps and micro-batches.

use crate::component::{Progress, Span};

/// The arithmetic of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPlan {
    /// Batches of an epoch.
    pub batches: u64,
    /// Batches of an optimizer step.
    pub accumulate: u64,
    /// Optimizer steps of an epoch; batches that do not fill a step are left out.
    pub steps_per_epoch: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Images of an optimizer step.
    pub images_per_step: usize,
}

/// An optimizer step within the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step within the epoch, from 0.
    pub step: u64,
    /// The first batch of the step within the epoch.
    pub batch: u64,
}

impl TrainingPlan {
    /// A run of `length` over epochs of `batches` batches; `None` if an epoch does not fill one optimizer
    /// step.
    pub fn new(batches: usize, batch_size: usize, accumulate: usize, length: Span) -> Option<Self> {
        let (batches, accumulate) = (batches as u64, accumulate.max(1) as u64);
        let steps_per_epoch = batches / accumulate;
        (steps_per_epoch > 0).then(|| Self {
            batches,
            accumulate,
            steps_per_epoch,
            steps: length.steps(steps_per_epoch).max(1),
            images_per_step: batch_size * accumulate as usize,
        })
    }

    /// Where a step lies.
    pub fn position(&self, step: u64) -> Position {
        let within = step % self.steps_per_epoch;
        Position { epoch: step / self.steps_per_epoch, step: within, batch: within * self.accumulate }
    }

    /// What the schedule is told before a step: the epoch advances evenly with every step. As in the official
    /// code, but for batches that do not fill a step, which there make it jump at the end of an epoch.
    pub fn progress(&self, step: u64) -> Progress {
        let Position { epoch, step: within, .. } = self.position(step);
        Progress {
            epoch: epoch as f64 + within as f64 / self.steps_per_epoch as f64,
            epochs: self.steps as f64 / self.steps_per_epoch as f64,
            step,
            steps: self.steps,
        }
    }

    /// Epochs done after a number of steps.
    pub fn epoch_after(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn batches_that_do_not_fill_a_step_are_left_out() {
        let plan = TrainingPlan::new(11, 4, 2, Span::Epochs(3.0)).unwrap();
        assert_eq!((plan.steps_per_epoch, plan.steps, plan.images_per_step), (5, 15, 8));
        assert_eq!(plan.position(7), Position { epoch: 1, step: 2, batch: 4 });
        assert!((plan.progress(7).epoch - (1.0 + 2.0 / 5.0)).abs() < 1e-12);
    }

    #[test]
    fn an_epoch_shorter_than_a_step_is_no_plan() {
        assert_eq!(TrainingPlan::new(3, 4, 4, Span::Epochs(1.0)), None);
    }
}
