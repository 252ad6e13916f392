//! Linear decay after a linear warm-up.

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::warmup::warm_up;
use super::{Length, warnings};

/// Linear warm-up, then a straight line from the learning rate down to `min_lr`, updated every iteration
/// (`get_linear_schedule_with_warmup` of transformers). Unlike with `Poly` the line begins where the warm-up ends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// Length of the linear warm-up: `5 epochs`, `1500 iterations`, or a fraction of the training, `0.005`.
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters"]))]
    pub warmup: Length,
    /// The first learning rate of the warm-up, as a multiple of the full one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_factor: f64,
    /// The learning rate at the end.
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["lr_min", "eta_min", "end_lr"]))]
    pub min_lr: f64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { warmup: Length::Span(Span::Iterations(0)), warmup_factor: 0.0, min_lr: 0.0 }
    }
}

#[typetag::serde]
impl Schedule for Linear {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        let (warmup, end) = (self.warmup.steps(at), at.steps as f64);
        let lr = |step: f64| {
            // A run that is all warm-up ends there.
            let done =
                if step <= warmup { 0.0 } else { ((step - warmup) / (end - warmup).max(0.0)).min(1.0) };
            base + (self.min_lr - base) * done
        };
        warm_up(at.step as f64, warmup, self.warmup_factor, lr)
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let warmup = warnings::of_warmup(self, self.warmup, training);
        warmup.into_iter().chain(warnings::of_min_lr(self.min_lr, training)).collect()
    }
}

convmae_framework::register!(Schedule: Linear);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{assert_as_transformers, at};
    use super::*;

    #[test]
    fn equals_transformers() {
        assert_as_transformers("linear", &json!({ "type": "Linear" }));
    }

    #[test]
    fn ends_at_min_lr_and_stays_there() {
        let schedule = Linear { min_lr: 0.2, ..Linear::default() };
        for (step, expected) in [(0, 1.0), (500, 0.6), (1000, 0.2), (1001, 0.2)] {
            assert!((schedule.lr(1.0, at(step, 1000)) - expected).abs() < 1e-15, "{step}");
        }
    }

    #[test]
    fn a_run_that_is_all_warmup_rises_to_its_end() {
        let schedule = Linear { warmup: Length::Span(Span::Epochs(20.0)), ..Linear::default() };
        assert!((schedule.lr(1.0, at(500, 1000)) - 0.25).abs() < 1e-15);
        assert_eq!(schedule.lr(1.0, at(2001, 1000)), 0.0);
    }
}
