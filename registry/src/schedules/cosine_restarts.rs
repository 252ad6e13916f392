//! Cosine decay with warm restarts after a linear warm-up.

use std::f64::consts::PI;

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::warmup::warm_up;
use super::{Length, warnings};

/// Linear warm-up, then half a cosine down to `min_lr` again and again, updated every iteration (SGDR, Loshchilov and
/// Hutter 2017; `CosineLRScheduler` of timm with `warmup_prefix` and without `cycle_limit`). A training whose length is
/// that of whole cycles ends at the lowest learning rate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineRestarts {
    /// Length of the first cycle, at least one iteration: `10 epochs`, `5000 iterations`, or a fraction of the training,
    /// `0.25`.
    #[schemars(extend(
        "x-called-elsewhere" = ["t_initial", "T_0", "cycle_length", "first_cycle_steps"],
        "examples" = ["10 epochs"]
    ))]
    pub cycle: Length,
    /// How many times as long every cycle is as the one before.
    #[serde(default = "one")]
    #[schemars(range(min = 1.0), extend("x-called-elsewhere" = ["T_mult", "t_mul"]))]
    pub cycle_mul: f64,
    /// The learning rate that a cycle begins with, as a multiple of what the one before began with.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0), extend("x-called-elsewhere" = ["decay_rate", "gamma"]))]
    pub cycle_decay: f64,
    /// Length of the linear warm-up, behind which the first cycle begins: `5 epochs`, `1500 iterations`, or a fraction of the
    /// training, `0.005`.
    #[serde(default = "none")]
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters", "warmup_t"]))]
    pub warmup: Length,
    /// The first learning rate of the warm-up, as a multiple of the full one.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_factor: f64,
    /// The learning rate at the end of a cycle.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-called-elsewhere" = ["lr_min", "eta_min"]))]
    pub min_lr: f64,
}

fn one() -> f64 {
    1.0
}

fn none() -> Length {
    Length::Span(Span::Iterations(0))
}

impl CosineRestarts {
    /// Which cycle a number of steps behind the warm-up lies in, and what part of it is done.
    fn position(&self, steps: f64, first: f64) -> (f64, f64) {
        let first = first.round().max(1.0);
        if self.cycle_mul <= 1.0 {
            let cycles = steps / first;
            return (cycles.floor(), cycles.fract());
        }
        let (mut cycle, mut start, mut length) = (0.0, 0.0, first);
        while steps >= start + length {
            cycle += 1.0;
            start += length;
            length *= self.cycle_mul;
        }
        (cycle, (steps - start) / length)
    }
}

#[typetag::serde]
impl Schedule for CosineRestarts {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        let warmup = self.warmup.steps(at);
        let lr = |step: f64| {
            let (cycle, done) = self.position((step - warmup).max(0.0), self.cycle.steps(at));
            let highest = base * self.cycle_decay.powf(cycle);
            self.min_lr + (highest - self.min_lr) * 0.5 * (1.0 + (PI * done).cos())
        };
        warm_up(at.step as f64, warmup, self.warmup_factor, lr)
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let warmup = warnings::of_warmup(self, self.warmup, training);
        let cycle = warnings::of_cycle(self.cycle, training);
        warmup.into_iter().chain(cycle).chain(warnings::of_min_lr(self.min_lr, training)).collect()
    }
}

convmae_framework::register!(Schedule: CosineRestarts);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{at, golden};
    use super::*;

    fn parse(keys: &Value) -> Box<dyn Schedule> {
        let mut schedule = json!({ "type": "CosineRestarts" });
        schedule.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        serde_json::from_value(schedule).unwrap()
    }

    /// Cycles of one length, of growing ones, lower and lower ones, each behind a warm-up and without.
    #[test]
    fn equals_timm() {
        let cases = golden("timm_cosine_restarts.json");
        assert_eq!(cases.as_array().unwrap().len(), 4);
        for case in cases.as_array().unwrap() {
            let number = |key: &str, default: f64| case[key].as_f64().unwrap_or(default);
            let iterations = |key: &str| json!(format!("{} iterations", number(key, 0.0)));
            let base = number("base_lr", 0.0);
            let schedule = parse(&json!({
                "cycle": iterations("t_initial"),
                "cycle_mul": number("cycle_mul", 1.0),
                "cycle_decay": number("cycle_decay", 1.0),
                "min_lr": number("lr_min", 0.0),
                "warmup": iterations("warmup_t"),
                "warmup_factor": number("warmup_lr_init", 0.0) / base,
            }));
            let expected: Vec<f64> = serde_json::from_value(case["lrs"].clone()).unwrap();
            assert_eq!(expected.len(), 80);
            for (step, expected) in expected.into_iter().enumerate() {
                let found = schedule.lr(base, at(step as u64, 80));
                assert!((found - expected).abs() < 1e-15, "{case}, {step}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_cycle_in_epochs_or_as_a_fraction_is_one_in_iterations() {
        let lr = |cycle: Value, step: u64| parse(&json!({ "cycle": cycle })).lr(1.0, at(step, 1000));
        for step in 0..1000 {
            let iterations = lr(json!("250 iterations"), step);
            assert_eq!(lr(json!("2.5 epochs"), step), iterations);
            assert_eq!(lr(json!(0.25), step), iterations);
        }
        assert!(lr(json!(0.25), 249) < 1e-3 && lr(json!(0.25), 250) == 1.0);
    }

    #[test]
    fn a_cycle_of_nothing_is_one_of_a_step() {
        let schedule = parse(&json!({ "cycle": "0 iterations", "cycle_mul": 2.0 }));
        let rates = [0, 1, 2, 3].map(|step| schedule.lr(1.0, at(step, 10)));
        assert!(rates[..2] == [1.0; 2] && (rates[2] - 0.5).abs() < 1e-15 && rates[3] == 1.0, "{rates:?}");
    }
}
