//! The same learning rate all the time, after a linear warm-up.

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::warmup::warm_up;
use super::{Length, warnings};

/// Linear warm-up, then the learning rate as it is, updated every iteration (`get_constant_schedule_with_warmup` of
/// transformers).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Constant {
    /// Length of the linear warm-up: `5 epochs`, `1500 iterations`, or a fraction of the training, `0.005`.
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters"]))]
    pub warmup: Length,
    /// The first learning rate of the warm-up, as a multiple of the full one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_factor: f64,
}

impl Default for Constant {
    fn default() -> Self {
        Self { warmup: Length::Span(Span::Iterations(0)), warmup_factor: 0.0 }
    }
}

#[typetag::serde]
impl Schedule for Constant {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        warm_up(at.step as f64, self.warmup.steps(at), self.warmup_factor, |_| base)
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        warnings::of_warmup(self, self.warmup, training).into_iter().collect()
    }
}

convmae_framework::register!(Schedule: Constant);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{assert_as_transformers, at};
    use super::*;

    #[test]
    fn equals_transformers() {
        assert_as_transformers("constant", &json!({ "type": "Constant" }));
    }

    #[test]
    fn without_a_warmup_every_step_has_the_whole_learning_rate() {
        for step in [0, 1, 500, 999, 1000] {
            assert_eq!(Constant::default().lr(1e-3, at(step, 1000)), 1e-3, "{step}");
        }
    }
}
