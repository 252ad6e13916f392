//! Polynomial decay after a linear warm-up.

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Length, warnings};

/// From the learning rate down to `min_lr` as `(1 - step / steps)^power`, multiplied by a factor that rises
/// linearly from `warmup_ratio` to 1 during the warm-up, updated every iteration (the `poly` policy of mmcv
/// 1.3 with `by_epoch: false`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Poly {
    /// The exponent; 1 is a straight line.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub power: f64,
    /// The learning rate at the end; that of a layer with a fraction of the learning rate is the same
    /// fraction of it.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
    /// Length of the linear warm-up: `1500 iterations`, `1 epoch`.
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters"]))]
    pub warmup: Span,
    /// The factor at the first iteration of the warm-up.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_ratio: f64,
}

impl Default for Poly {
    fn default() -> Self {
        Self { power: 1.0, min_lr: 0.0, warmup: Span::Iterations(0), warmup_ratio: 1e-6 }
    }
}

#[typetag::serde]
impl Schedule for Poly {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        // A step past the last one, and a run without steps, have nothing left.
        let left = if at.step < at.steps { 1.0 - at.step as f64 / at.steps as f64 } else { 0.0 };
        let lr = (base - self.min_lr) * left.powf(self.power) + self.min_lr;
        let warmup = match self.warmup {
            Span::Iterations(iterations) => iterations,
            Span::Epochs(_) => self.warmup.steps(at.steps_per_epoch().round() as u64),
        };
        if at.step >= warmup {
            return lr;
        }
        // The warm-up scales what the policy gives, not the base.
        lr * (1.0 - (1.0 - at.step as f64 / warmup as f64) * (1.0 - self.warmup_ratio))
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let warmup = warnings::of_warmup(self, Length::Span(self.warmup), training);
        warmup.into_iter().chain(warnings::of_min_lr(self.min_lr, training)).collect()
    }
}

convmae_framework::register!(Schedule: Poly);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing::at;
    use super::*;

    fn poly(power: f64, min_lr: f64, warmup: Span) -> Poly {
        Poly { power, min_lr, warmup, ..Poly::default() }
    }

    /// The hook of mmcv on the learning rates of three layers, which are the base's times a power of 0.75.
    #[test]
    fn equals_the_official_schedule_for_every_layer() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/lr_schedule.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let number = |key: &str| golden["config"][key].as_f64().unwrap();
        let integer = |key: &str| golden["config"][key].as_u64().unwrap();
        let schedule = Poly {
            power: number("power"),
            min_lr: number("min_lr"),
            warmup: Span::Iterations(integer("warmup_iters")),
            warmup_ratio: number("warmup_ratio"),
        };
        let samples = golden["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 300);
        for sample in samples {
            let step = sample["iter"].as_u64().unwrap();
            let lr = schedule.lr(number("base_lr"), at(step, integer("max_iters")));
            for (layer, name) in [(0, "lr_layer0"), (6, "lr_layer6"), (12, "lr_layer12")] {
                let (found, expected) = (lr * 0.75_f64.powi(12 - layer), sample[name].as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-12 * expected, "{step}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_power_bends_the_way_to_min_lr() {
        let schedule = poly(2.0, 0.1, Span::Iterations(0));
        for (step, expected) in [(0, 1.1), (500, 0.35), (1000, 0.1), (1001, 0.1)] {
            assert!((schedule.lr(1.1, at(step, 1000)) - expected).abs() < 1e-15);
        }
        assert_eq!(poly(0.9, 0.0, Span::Iterations(0)).lr(1.0, at(0, 0)), 0.0);
    }

    #[test]
    fn a_warmup_in_epochs_is_one_in_iterations() {
        let (epochs, iterations) = (Span::Epochs(1.5), Span::Iterations(150));
        for step in 0..200 {
            let lr = |warmup| poly(1.0, 0.0, warmup).lr(1e-3, at(step, 400));
            assert_eq!(lr(epochs), lr(iterations), "{step}");
        }
    }
}
