//! Decay in steps after a linear warm-up.

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::warmup::warm_up;
use super::{Length, warnings};

/// The learning rate, multiplied by `gamma` at every milestone, after a linear warm-up
/// (`MultiStepParamScheduler` and `WarmupParamScheduler` of detectron2).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MultiStep {
    /// When it decays: `163889 iterations`, `8 epochs`, or a fraction of the training, `0.9`.
    #[schemars(extend("examples" = [["163889 iterations", "177546 iterations"]]))]
    pub milestones: Vec<Length>,
    /// The factor at every milestone.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// Length of the linear warm-up: `250 iterations`, `1 epoch`, or a fraction of the training, `0.005`.
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters"]))]
    pub warmup: Length,
    /// The first learning rate of the warm-up, as a multiple of the full one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_factor: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        Self {
            milestones: Vec::new(),
            gamma: 0.1,
            warmup: Length::Span(Span::Iterations(0)),
            warmup_factor: 0.001,
        }
    }
}

#[typetag::serde]
impl Schedule for MultiStep {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        let lr = |step: f64| {
            let passed = self.milestones.iter().filter(|milestone| step >= milestone.steps(at)).count();
            base * self.gamma.powi(passed as i32)
        };
        warm_up(at.step as f64, self.warmup.steps(at), self.warmup_factor, lr)
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let warmup = warnings::of_warmup(self, self.warmup, training);
        warmup.into_iter().chain(warnings::of_milestones(&self.milestones, training)).collect()
    }
}

convmae_framework::register!(Schedule: MultiStep);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::at;
    use super::*;

    fn parse(json: Value) -> Box<dyn Schedule> {
        serde_json::from_value(json).unwrap()
    }

    /// `lr_schedule.json` of Official-ConvMAE-Det, whose tolerance is 1e-12.
    #[test]
    fn equals_the_official_schedule() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/lr_schedule_vitdet.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let iterations = |value: &Value| json!(format!("{value} iterations"));
        let milestones: Vec<Value> =
            golden["milestones"].as_array().unwrap().iter().map(iterations).collect();
        let schedule = parse(json!({
            "type": "MultiStep", "milestones": milestones,
            "warmup": iterations(&golden["warmup_iters"]), "warmup_factor": golden["warmup_factor"],
        }));
        let steps = golden["max_iter"].as_u64().unwrap();
        let official =
            golden["iters"].as_array().unwrap().iter().zip(golden["multiplier"].as_array().unwrap());
        assert_eq!(official.len(), 25);
        for (step, multiplier) in official {
            let step = step.as_u64().unwrap();
            let (found, expected) = (schedule.lr(1.0, at(step, steps)), multiplier.as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-12, "{step}: {found}, not {expected}");
        }
    }

    #[test]
    fn milestones_have_a_unit_or_are_fractions() {
        let rates = |milestones: Value| {
            let schedule = parse(json!({ "type": "MultiStep", "milestones": milestones, "gamma": 0.5 }));
            [0, 499, 500, 749, 750, 999].map(|step| schedule.lr(1.0, at(step, 1000)))
        };
        let expected = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25];
        assert_eq!(rates(json!(["500 iterations", "750 iterations"])), expected);
        assert_eq!(rates(json!(["5 epochs", 0.75])), expected);
        assert_eq!(rates(json!([0.75, "500 iterations"])), expected, "in any order");
        assert_eq!(rates(json!([])), [1.0; 6]);
    }

    #[test]
    fn a_milestone_within_the_warmup_lowers_its_end() {
        let schedule = parse(json!({
            "type": "MultiStep", "milestones": [0.05], "warmup": 0.1, "warmup_factor": 0.0, "gamma": 0.5,
        }));
        let rates = [0, 50, 100].map(|step| schedule.lr(1.0, at(step, 1000)));
        assert_eq!(rates, [0.0, 0.25, 0.5]);
    }
}
