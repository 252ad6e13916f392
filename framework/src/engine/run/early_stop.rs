//! Whether a training has waited long enough for something better.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::component::Evaluator;
use crate::engine::EngineError;
use crate::engine::evaluate::Evaluation;
use crate::experiment::{Better, EarlyStop};
use crate::recipe::list;

/// What has come of the waiting so far; a checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    best: Option<Best>,
    /// Evaluations since.
    evaluations: u32,
}

/// The best value so far, and after which step that was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Best {
    value: f64,
    step: u64,
}

/// Waits for a metric to get better.
#[derive(Debug)]
pub struct EarlyStopper {
    metric: String,
    better: Better,
    patience: u32,
    min_delta: f64,
    /// What has come of it so far.
    pub waited: Waited,
}

impl EarlyStopper {
    /// One that has waited for nothing yet, for a recipe that was checked: it evaluates, and it is known which value of the
    /// metric is better.
    pub fn new<'a>(rule: &EarlyStop, evaluators: impl Iterator<Item = &'a dyn Evaluator>) -> Option<Self> {
        let (metric, better) = rule.metric_of(evaluators)?;
        let EarlyStop { patience, min_delta, .. } = *rule;
        Some(Self { metric, better: better?, patience, min_delta, waited: Waited::default() })
    }

    /// Takes the evaluation after a step.
    ///
    /// # Errors
    /// If the metric is none of those that were measured.
    pub fn take(&mut self, step: u64, evaluation: &Evaluation) -> Result<(), EngineError> {
        let Some(value) = evaluation.get(&self.metric) else {
            let names = evaluation.metrics.iter().map(|(name, _)| name.as_str());
            return Err(EngineError::Usage(format!(
                "`train.stop.metric`: there is no metric `{}`; measured are {}",
                self.metric,
                list(names)
            )));
        };
        let is_better = |best: Best| match self.better {
            Better::Max => value - self.min_delta > best.value,
            Better::Min => value + self.min_delta < best.value,
        };
        match self.waited.best {
            Some(best) if !is_better(best) => self.waited.evaluations += 1,
            // What is not a number is no better than anything.
            None if value.is_nan() => self.waited.evaluations += 1,
            _ => self.waited = Waited { best: Some(Best { value, step }), evaluations: 0 },
        }
        Ok(())
    }

    /// Whether it has waited long enough.
    pub fn is_over(&self) -> bool {
        self.waited.evaluations >= self.patience
    }
}

/// Why the training ends.
impl fmt::Display for EarlyStopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, waited, .. } = self;
        let plural = if waited.evaluations == 1 { "" } else { "s" };
        match waited.best {
            Some(Best { value, step }) => write!(
                f,
                "{} evaluation{plural} without a better {metric} than {value:.4} after step {step}",
                waited.evaluations
            ),
            None => write!(f, "{} evaluation{plural} whose {metric} is not a number", waited.evaluations),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn stopper(better: Better, patience: u32, min_delta: f64) -> EarlyStopper {
        EarlyStopper { metric: "m".to_owned(), better, patience, min_delta, waited: Waited::default() }
    }

    /// After which of these evaluations, from 1, it stops.
    fn stops(mut stopper: EarlyStopper, values: &[f64]) -> Option<usize> {
        for (at, &value) in values.iter().enumerate() {
            let evaluation = Evaluation { metrics: vec![("m".to_owned(), value)], ..Evaluation::default() };
            stopper.take(at as u64, &evaluation).unwrap();
            if stopper.is_over() {
                return Some(at + 1);
            }
        }
        None
    }

    /// As `EarlyStopping` of Lightning and of Keras.
    #[test]
    fn it_ends_after_so_many_evaluations_that_are_no_better() {
        let rising = [1.0, 2.0, 2.0, 1.5, 3.0, 2.9, 3.0, 3.0];
        assert_eq!(stops(stopper(Better::Max, 2, 0.0), &rising), Some(4));
        assert_eq!(stops(stopper(Better::Max, 3, 0.0), &rising), Some(8));
        assert_eq!(stops(stopper(Better::Max, 4, 0.0), &rising), None);
        let falling = [4.0, 3.0, 2.95, 2.9, 1.0];
        assert_eq!(stops(stopper(Better::Min, 2, 0.0), &falling), None);
        assert_eq!(stops(stopper(Better::Min, 2, 0.5), &falling), Some(4));
        assert_eq!(stops(stopper(Better::Min, 1, 1.0), &falling), Some(2), "just as much is not more");
    }

    #[test]
    fn what_is_not_a_number_is_no_better() {
        assert_eq!(stops(stopper(Better::Max, 2, 0.0), &[f64::NAN, f64::NAN]), Some(2));
        assert_eq!(stops(stopper(Better::Min, 2, 0.0), &[1.0, f64::NAN, 0.5, f64::NAN, 0.4]), None);
    }

    #[test]
    fn it_says_what_it_waited_for() {
        let mut stopper = stopper(Better::Max, 1, 0.0);
        let evaluation =
            |value| Evaluation { metrics: vec![("m".to_owned(), value)], ..Evaluation::default() };
        stopper.take(30, &evaluation(81.25)).unwrap();
        stopper.take(60, &evaluation(80.0)).unwrap();
        assert_eq!(stopper.to_string(), "1 evaluation without a better m than 81.2500 after step 30");
        let other = Evaluation { metrics: vec![("top1".to_owned(), 1.0)], ..Evaluation::default() };
        let message = stopper.take(90, &other).unwrap_err().to_string();
        assert_eq!(message, "`train.stop.metric`: there is no metric `m`; measured are `top1`");
    }
}
