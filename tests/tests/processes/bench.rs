//! `convmae bench` in several processes.

use serde_json::Value;

use super::command;
use crate::support::{Folder, data};

fn report(folder: &Folder, processes: usize) -> Value {
    let recipe = data("tiny.yaml");
    let mut command = command(folder, processes, "bench");
    let output = command.arg(recipe).args(["--steps", "2", "--warmup", "1", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // One process tells.
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn it_tells_what_the_processes_take_to_add_up_their_gradients() {
    let folder = Folder::new();
    let (alone, two) = (report(&folder, 1), report(&folder, 2));
    assert_eq!(alone["processes"], Value::Null);
    let exchanged = &two["processes"];
    assert_eq!(exchanged["processes"], 2);
    for seconds in ["wait_seconds", "exchange_seconds", "alone_seconds", "allreduce_seconds"] {
        assert!(exchanged[seconds].as_f64().is_some_and(|seconds| seconds > 0.0), "{exchanged}");
    }
    // With two processes half of the gradient goes out, and half of the sum.
    let check = folder.succeeds([
        "check",
        data("tiny.yaml").to_str().unwrap(),
        "--processes",
        "2",
        "--set",
        "train.accumulate=2",
        "--json",
    ]);
    let check: Value = serde_json::from_str(&crate::support::stdout(&check)).unwrap();
    assert_eq!(exchanged["gradient_bytes"], check["training"]["processes"]["bytes_per_step"]);
    let step = two["seconds_per_step"]["median"].as_f64().unwrap();
    let speed = 2.0 * two["batch_size"].as_f64().unwrap() / step;
    assert!((two["images_per_s"].as_f64().unwrap() / speed - 1.0).abs() < 1e-9);
}
