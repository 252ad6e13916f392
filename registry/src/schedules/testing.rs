//! What the tests of schedules share.

use convmae_framework::component::{Progress, Schedule};
use serde_json::{Value, json};

/// Before a step of a training of so many, in epochs of 100.
pub(super) fn at(step: u64, steps: u64) -> Progress {
    Progress { epoch: step as f64 / 100.0, epochs: steps as f64 / 100.0, step, steps }
}

/// A file of `tests/data/schedules`.
pub(super) fn golden(name: &str) -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/schedules/").to_owned() + name;
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// That a schedule with a warm-up, in all units, gives what one of transformers does.
pub(super) fn assert_as_transformers(name: &str, schedule: &Value) {
    let golden = golden("transformers.json");
    let [warmup, steps] = ["warmup", "steps"].map(|key| golden[key].as_u64().unwrap());
    let expected: Vec<f64> = serde_json::from_value(golden[name].clone()).unwrap();
    assert_eq!(expected.len() as u64, steps + 1);
    let iterations = json!(format!("{warmup} iterations"));
    let epochs = json!(format!("{} epochs", warmup as f64 / 100.0));
    for warmup in [iterations, epochs, json!(warmup as f64 / steps as f64)] {
        let mut schedule = schedule.clone();
        schedule["warmup"] = warmup;
        let schedule: Box<dyn Schedule> = serde_json::from_value(schedule).unwrap();
        for (step, expected) in (0..).zip(&expected) {
            let found = schedule.lr(1.0, at(step, steps));
            assert!((found - expected).abs() < 1e-12, "{schedule:?}, {step}: {found}, not {expected}");
        }
    }
}
