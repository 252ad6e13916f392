//! How a run is divided into epochs, optimizer steps and micro-batches.

use crate::component::{Progress, Span};
use crate::experiment::Train;

/// The arithmetic of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    /// Batches of an epoch.
    pub batches: u64,
    /// Batches of an optimizer step; the last one of an epoch may have fewer.
    pub accumulate: u64,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Images of an optimizer step.
    pub images_per_step: usize,
    /// Images that an epoch takes.
    images_per_epoch: usize,
    /// Steps after which the training was to end: before each extension, and altogether.
    ends: Vec<u64>,
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
    /// A run of `length` over epochs of `batches` whole batches, of which those that do not fill a step are left
    /// out; `None` if an epoch does not fill one.
    pub fn new(batches: usize, batch_size: usize, accumulate: usize, length: Span) -> Option<Self> {
        let accumulate = accumulate.max(1);
        let images_per_step = batch_size * accumulate;
        let steps_per_epoch = batches / accumulate;
        (steps_per_epoch > 0).then(|| {
            let steps = length.steps(steps_per_epoch as u64).max(1);
            Self {
                batches: batches as u64,
                accumulate: accumulate as u64,
                steps_per_epoch: steps_per_epoch as u64,
                steps,
                images_per_step,
                images_per_epoch: steps_per_epoch * images_per_step,
                ends: vec![steps],
            }
        })
    }

    /// The training that a recipe states, on so many samples; `None` if an epoch has no step.
    pub fn of(train: &Train, samples: usize, batch_size: usize) -> Option<Self> {
        let (batch_size, accumulate) = (batch_size.max(1), train.accumulate.max(1));
        let plan = if train.drop_last {
            Self::new(samples / batch_size, batch_size, accumulate, train.length)?
        } else {
            let steps = samples.div_ceil(batch_size * accumulate);
            let batches = samples.div_ceil(batch_size) as u64;
            let plan = Self::new(steps * accumulate, batch_size, accumulate, train.length)?;
            Self { batches, images_per_epoch: samples, ..plan }
        };
        Some(train.extended.iter().fold(plan, |plan, &more| plan.extended(more)))
    }

    /// The plan, and more after its end.
    #[must_use]
    pub fn extended(mut self, more: Span) -> Self {
        self.steps += more.steps(self.steps_per_epoch).max(1);
        self.ends.push(self.steps);
        self
    }

    /// The step at which its last part begins: the last extension, or the training.
    pub fn last_part(&self) -> u64 {
        self.ends.iter().rev().nth(1).copied().unwrap_or(0)
    }

    /// Where a step lies.
    pub fn position(&self, step: u64) -> Position {
        let within = step % self.steps_per_epoch;
        Position { epoch: step / self.steps_per_epoch, step: within, batch: within * self.accumulate }
    }

    /// Images of a step: fewer in the last one of an epoch, if what does not fill it is not left out.
    pub fn images_of(&self, step: u64) -> usize {
        let before = self.position(step).step as usize * self.images_per_step;
        self.images_per_step.min(self.images_per_epoch - before)
    }

    /// What the schedule is told before a step: the epoch advances evenly with every step. As in the official
    /// code, but for batches that do not fill a step, which there make it jump at the end of an epoch. Steps
    /// before an extension know nothing of it.
    pub fn progress(&self, step: u64) -> Progress {
        let Position { epoch, step: within, .. } = self.position(step);
        let steps = self.ends.iter().copied().find(|&end| step < end).unwrap_or(self.steps);
        Progress {
            epoch: epoch as f64 + within as f64 / self.steps_per_epoch as f64,
            epochs: self.epoch_after(steps),
            step,
            steps,
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

    fn train(keys: &serde_json::Value) -> Train {
        let mut train = serde_json::json!({ "length": "3 epochs", "accumulate": 2 });
        train.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        serde_json::from_value(train).unwrap()
    }

    #[test]
    fn an_epoch_ends_with_the_images_that_are_left_or_without_them() {
        let images = |drop_last: bool, samples: usize| {
            let plan = TrainingPlan::of(&train(&serde_json::json!({ "drop_last": drop_last })), samples, 4);
            plan.map(|plan| {
                (plan.batches, (0..plan.steps_per_epoch).map(|step| plan.images_of(step)).collect())
            })
        };
        assert_eq!(images(true, 19), Some((4, vec![8, 8])));
        assert_eq!(images(false, 19), Some((5, vec![8, 8, 3])));
        assert_eq!(images(false, 16), Some((4, vec![8, 8])));
        assert_eq!(images(false, 3), Some((1, vec![3])));
        assert_eq!(images(true, 7), None);
        let plan = TrainingPlan::of(&train(&serde_json::json!({ "drop_last": false })), 19, 4).unwrap();
        assert_eq!((plan.steps, plan.images_of(8), plan.position(5).batch), (9, 3, 4));
    }

    #[test]
    fn steps_before_an_extension_know_nothing_of_it() {
        let extended = serde_json::json!({ "extended": ["1 epoch", "3 iterations"] });
        let plan = TrainingPlan::of(&train(&extended), 16, 4).unwrap();
        assert_eq!(plan.steps, 6 + 2 + 3);
        let steps: Vec<u64> = [0, 5, 6, 7, 8, 10].map(|step| plan.progress(step).steps).into();
        assert_eq!(steps, [6, 6, 8, 8, 11, 11]);
        assert!((plan.progress(6).epochs - 4.0).abs() < 1e-12);
    }
}
