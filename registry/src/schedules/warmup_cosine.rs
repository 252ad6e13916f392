//! Cosine decay after a linear warm-up.

use std::f64::consts::PI;

use convmae_framework::component::{Progress, Schedule, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Linear warm-up from zero, then half a cosine down to `min_lr`, updated every iteration
/// (`util/lr_sched.py` of the official code).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarmupCosine {
    /// Length of the linear warm-up: `40 epochs`, `1500 iterations`.
    pub warmup: Span,
    /// The learning rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}

impl Default for WarmupCosine {
    fn default() -> Self {
        Self { warmup: Span::Epochs(0.0), min_lr: 0.0 }
    }
}

#[typetag::serde]
impl Schedule for WarmupCosine {
    fn lr(&self, base: f64, at: Progress) -> f64 {
        let warmup = self.warmup.epochs(at.steps_per_epoch());
        if at.epoch < warmup {
            return base * at.epoch / warmup;
        }
        // A run that is all warm-up ends there.
        let done =
            if at.epochs > warmup { ((at.epoch - warmup) / (at.epochs - warmup)).min(1.0) } else { 1.0 };
        self.min_lr + (base - self.min_lr) * 0.5 * (1.0 + (PI * done).cos())
    }
}

convmae_framework::register!(Schedule: WarmupCosine);

#[cfg(test)]
mod tests {
    use super::*;

    fn lr(schedule: &WarmupCosine, epoch: f64, epochs: f64) -> f64 {
        schedule.lr(1e-3, Progress { epoch, epochs, step: 0, steps: 0 })
    }

    /// The schedule of `../shared/golden/pretrain/README.md`: base 1e-3, warm-up 2 of 5 epochs.
    #[test]
    fn equals_the_official_schedule() {
        let schedule = WarmupCosine { warmup: Span::Epochs(2.0), min_lr: 0.0 };
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
        let schedule =
            WarmupCosine { warmup: Span::Epochs(number("warmup_epochs")), min_lr: number("min_lr") };
        let table: Vec<[f64; 2]> = serde_json::from_value(golden["table"].clone()).unwrap();
        assert_eq!(table.len(), 401);
        for [epoch, expected] in table {
            let at = Progress { epoch, epochs: number("epochs"), step: 0, steps: 0 };
            let rate = schedule.lr(number("lr"), at);
            assert!((rate - expected).abs() <= 1e-12 * expected, "{epoch}: {rate}, not {expected}");
        }
    }

    #[test]
    fn ends_at_min_lr_and_stays_there() {
        let schedule = WarmupCosine { warmup: Span::Epochs(0.0), min_lr: 1e-6 };
        assert_eq!(lr(&schedule, 0.0, 10.0), 1e-3);
        assert!((lr(&schedule, 10.0, 10.0) - 1e-6).abs() < 1e-15);
        assert!((lr(&schedule, 11.0, 10.0) - 1e-6).abs() < 1e-15);
    }
}
