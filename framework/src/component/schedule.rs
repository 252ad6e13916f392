//! Schedules: the learning rate over time.

use super::registry::slot_schema;
use super::{Problem, Span};

/// The learning rate as a function of progress.
#[typetag::serde(tag = "type")]
pub trait Schedule: std::fmt::Debug + Send + Sync {
    /// The learning rate of a step, from the base learning rate.
    fn lr(&self, base: f64, at: Progress) -> f64;

    /// What is doubtful about it in such a training, at its keys: a warm-up that does not end, a decay that
    /// rises. Warnings, for the official code allows all of it.
    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let _ = training;
        Vec::new()
    }
}

slot_schema!(Schedule);

/// A training, as far as it is known to a schedule that is looked at before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// The learning rate before the schedule.
    pub base_lr: f64,
    /// How long it is.
    pub length: Span,
    /// Optimizer steps of an epoch, once the data is open.
    pub steps_per_epoch: Option<u64>,
}

impl Training {
    /// Whether a length is certainly longer than the training. Without the data only that is known that an
    /// epoch has a step.
    pub fn is_shorter_than(&self, span: Span) -> bool {
        match (span, self.length, self.steps_per_epoch) {
            (Span::Epochs(span), Span::Epochs(own), _) => span > own,
            (Span::Iterations(span), Span::Iterations(own), _) => span > own,
            (_, _, Some(steps)) => span.epochs(steps as f64) > self.length.epochs(steps as f64),
            (Span::Epochs(span), Span::Iterations(own), None) => span > own as f64,
            (Span::Iterations(_), Span::Epochs(_), None) => false,
        }
    }

    /// Its length in the unit of another one, where the data is open; else as it is written.
    pub fn length_like(&self, other: Span) -> Span {
        match (other, self.length, self.steps_per_epoch) {
            (Span::Epochs(_), Span::Iterations(_), Some(steps)) => {
                Span::Epochs(self.length.epochs(steps as f64))
            }
            (Span::Iterations(_), Span::Epochs(_), Some(steps)) => Span::Iterations(self.length.steps(steps)),
            _ => self.length,
        }
    }

    /// Where its last step is, once the data is open.
    pub fn last_step(&self) -> Option<Progress> {
        let steps_per_epoch = self.steps_per_epoch?;
        let steps = self.length.steps(steps_per_epoch).max(1);
        let epochs = |steps: u64| steps as f64 / steps_per_epoch as f64;
        Some(Progress { epoch: epochs(steps - 1), epochs: epochs(steps), step: steps - 1, steps })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn training(length: Span, steps_per_epoch: Option<u64>) -> Training {
        Training { base_lr: 1e-3, length, steps_per_epoch }
    }

    #[test]
    fn lengths_of_two_units_are_compared_as_far_as_the_data_is_known() {
        let shorter = |length, steps_per_epoch, span| training(length, steps_per_epoch).is_shorter_than(span);
        assert!(shorter(Span::Epochs(1.0), None, Span::Epochs(1.5)));
        assert!(!shorter(Span::Epochs(1.0), None, Span::Epochs(1.0)));
        assert!(shorter(Span::Iterations(6), None, Span::Iterations(7)));
        // An epoch has a step at least.
        assert!(shorter(Span::Iterations(6), None, Span::Epochs(7.0)));
        assert!(!shorter(Span::Iterations(6), None, Span::Epochs(2.0)));
        assert!(shorter(Span::Iterations(6), Some(4), Span::Epochs(2.0)));
        assert!(!shorter(Span::Epochs(2.0), None, Span::Iterations(100)));
        assert!(shorter(Span::Epochs(2.0), Some(4), Span::Iterations(9)));
    }

    #[test]
    fn the_last_step_begins_one_step_before_the_end() {
        let training = training(Span::Iterations(6), Some(4));
        assert_eq!(training.last_step(), Some(Progress { epoch: 1.25, epochs: 1.5, step: 5, steps: 6 }));
        assert_eq!(training.length_like(Span::Epochs(40.0)), Span::Epochs(1.5));
        assert_eq!(training.length_like(Span::Iterations(1)), Span::Iterations(6));
    }
}
