//! Cosine decay after a linear warm-up.

use std::f64::consts::PI;

use convmae_framework::component::{Problem, Progress, Schedule, Span, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::warmup::warm_up;
use super::{Length, warnings};

/// Linear warm-up from zero, then half a cosine down to `min_lr`, updated every iteration
/// (`util/lr_sched.py` of the official code).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarmupCosine {
    /// Length of the linear warm-up: `40 epochs`, `1500 iterations`, or a fraction of the training, `0.005`.
    #[schemars(extend("x-called-elsewhere" = ["warmup_epochs", "warmup_steps", "warmup_iters"]))]
    pub warmup: Length,
    /// The first learning rate of the warm-up, as a multiple of the full one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_factor: f64,
    /// Whether the cosine starts with the training and the warm-up leads to its value there
    /// (`CosineParamScheduler` and `WarmupParamScheduler` of detectron2), instead of after the warm-up.
    pub from_start: bool,
    /// The learning rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}

impl Default for WarmupCosine {
    fn default() -> Self {
        let warmup = Length::Span(Span::Epochs(0.0));
        Self { warmup, warmup_factor: 0.0, from_start: false, min_lr: 0.0 }
    }
}

#[typetag::serde]
impl Schedule for WarmupCosine {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        let warmup = self.warmup.epochs(at);
        let start = if self.from_start { 0.0 } else { warmup };
        let lr = |epoch: f64| {
            // A run that is all warm-up ends there.
            let done =
                if epoch <= start { 0.0 } else { ((epoch - start) / (at.epochs - start).max(0.0)).min(1.0) };
            self.min_lr + (base - self.min_lr) * 0.5 * (1.0 + (PI * done).cos())
        };
        warm_up(at.epoch, warmup, self.warmup_factor, lr)
    }

    fn warnings(&self, training: &Training) -> Vec<Problem> {
        let warmup = warnings::of_warmup(self, self.warmup, training);
        warmup.into_iter().chain(warnings::of_min_lr(self.min_lr, training)).collect()
    }
}

convmae_framework::register!(Schedule: WarmupCosine);

#[cfg(test)]
mod tests {
    use super::*;

    fn warmup_cosine(epochs: f64, min_lr: f64) -> WarmupCosine {
        WarmupCosine { warmup: Length::Span(Span::Epochs(epochs)), min_lr, ..WarmupCosine::default() }
    }

    fn lr(schedule: &WarmupCosine, epoch: f64, epochs: f64) -> f64 {
        schedule.lr(1e-3, Progress { epoch, epochs, step: 0, steps: 0 })
    }

    /// The schedule of `../shared/golden/pretrain/README.md`: base 1e-3, warm-up 2 of 5 epochs.
    #[test]
    fn equals_the_official_schedule() {
        let schedule = warmup_cosine(2.0, 0.0);
        let rates: Vec<f64> = (0..5).map(|epoch| lr(&schedule, f64::from(epoch), 5.0)).collect();
        for (rate, expected) in rates.iter().zip([0.0, 5e-4, 1e-3, 7.5e-4, 2.5e-4]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    /// `lr_sched.adjust_learning_rate` for every quarter of an epoch.
    #[test]
    fn equals_the_official_schedule_within_epochs() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/finetune/lr_schedule.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let number = |key: &str| golden[key].as_f64().unwrap();
        let schedule = warmup_cosine(number("warmup_epochs"), number("min_lr"));
        let table: Vec<[f64; 2]> = serde_json::from_value(golden["table"].clone()).unwrap();
        assert_eq!(table.len(), 401);
        for [epoch, expected] in table {
            let at = Progress { epoch, epochs: number("epochs"), step: 0, steps: 0 };
            let rate = schedule.lr(number("lr"), at);
            assert!((rate - expected).abs() <= 1e-12 * expected, "{epoch}: {rate}, not {expected}");
        }
    }

    /// `lr_schedule.json` of ConvMAE's `DET`, for 25, 50 and 100 epochs, whose tolerance is 1e-9.
    #[test]
    fn equals_the_official_schedule_of_detection() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/detection/lr_schedule.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let curves = golden["curves"].as_object().unwrap();
        assert_eq!(curves.len(), 3);
        for curve in curves.values() {
            let schedule: Box<dyn Schedule> = serde_json::from_value(serde_json::json!({
                "type": "WarmupCosine", "from_start": true,
                "warmup": curve["warmup_length"], "warmup_factor": curve["warmup_factor"],
            }))
            .unwrap();
            let steps = curve["max_iter"].as_u64().unwrap();
            let official =
                curve["iters"].as_array().unwrap().iter().zip(curve["multiplier"].as_array().unwrap());
            assert_eq!(official.len(), 210);
            for (step, multiplier) in official {
                let step = step.as_u64().unwrap();
                let epochs = |steps: u64| steps as f64 / 3664.0;
                let at = Progress { epoch: epochs(step), epochs: epochs(steps), step, steps };
                let (found, expected) = (schedule.lr(1.0, at), multiplier.as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-9, "{step}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_run_that_is_all_warmup_rises_to_its_end() {
        let schedule = warmup_cosine(10.0, 0.0);
        assert!((lr(&schedule, 5.0, 10.0) - 5e-4).abs() < 1e-15);
        assert_eq!(lr(&schedule, 12.0, 10.0), 0.0);
    }

    #[test]
    fn ends_at_min_lr_and_stays_there() {
        let schedule = warmup_cosine(0.0, 1e-6);
        assert_eq!(lr(&schedule, 0.0, 10.0), 1e-3);
        assert!((lr(&schedule, 10.0, 10.0) - 1e-6).abs() < 1e-15);
        assert!((lr(&schedule, 11.0, 10.0) - 1e-6).abs() < 1e-15);
    }
}
