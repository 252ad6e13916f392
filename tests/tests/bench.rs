//! `convmae bench`.

use serde_json::Value;

use crate::golden::on;
use crate::support::{Arithmetic, Folder, data, stdout};

fn seconds(item: &Value) -> f64 {
    item["total"].as_f64().unwrap()
}

#[test]
fn the_times_of_phases_nodes_and_kernels_each_add_up_to_the_steps() {
    // On a card the steps are profiled once more, when they are timed: kernel by kernel, which is slower.
    let is_cpu = on() == Arithmetic::Cpu;
    let folder = Folder::new();
    let assert = folder.succeeds(["bench", "tiny.yaml", "--steps", "3", "--warmup", "1", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&assert)).unwrap();
    let all: Vec<f64> =
        report["seconds_per_step"]["all"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let mean = report["seconds_per_step"]["mean"].as_f64().unwrap();
    assert_eq!(all.len(), 3);
    for table in ["phases", "nodes", "kernels"] {
        let total: f64 = report[table].as_array().unwrap().iter().map(seconds).sum();
        // How much of a step lies between them depends on what else the machine does.
        assert!(total > 0.0 && (total <= mean || !is_cpu), "{table}: {total} of {mean} s");
    }
    let kernels = report["kernels"].as_array().unwrap();
    for name in ["matmul", "attention", "depthwise", if is_cpu { "layer norm" } else { "layer_norm" }] {
        let is_timed = |kernel: &Value| kernel["name"] == name && seconds(kernel) > 0.0;
        assert!(kernels.iter().any(is_timed), "{name} is missing");
    }
    let speed =
        report["batch_size"].as_f64().unwrap() / report["seconds_per_step"]["median"].as_f64().unwrap();
    assert!((report["images_per_s"].as_f64().unwrap() / speed - 1.0).abs() < 1e-9);
    assert!(report["data"]["images_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn images_that_are_not_there_are_named_and_the_steps_are_timed_all_the_same() {
    let folder = Folder::new();
    let dataset = "type: SyntheticScenes, length: 24, size: 40";
    folder.recipe_with(dataset, "type: ImageFolder, root: nowhere");
    let assert = folder.succeeds(["bench", "recipe.yaml", "--steps", "1", "--warmup", "0"]);
    let text = stdout(&assert);
    assert!(text.contains("not measured: ") && text.contains("nowhere"), "{text}");
    assert!(text.contains("images/s, ") && text.contains("depthwise"), "{text}");
}

#[test]
fn a_model_of_pixels_is_timed_on_random_labels() {
    let recipe = data("tiny_pixels.yaml");
    let args = ["bench", recipe.to_str().unwrap(), "--steps", "1", "--warmup", "0"];
    assert!(stdout(&Folder::new().succeeds(args)).contains("images/s, "));
}

#[test]
fn a_forward_is_timed_by_itself() {
    let folder = Folder::new();
    for recipe in ["tiny.yaml", "tiny_pixels.yaml"] {
        let recipe = data(recipe);
        let args =
            ["bench", recipe.to_str().unwrap(), "--forward", "--steps", "2", "--warmup", "1", "--json"];
        let report: Value = serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap();
        let phases = report["phases"].as_array().unwrap();
        assert!(
            phases.iter().all(|phase| phase["name"] == "forward") && seconds(&phases[0]) > 0.0,
            "{report}"
        );
        let heads = report["nodes"].as_array().unwrap();
        assert!(heads.len() > 1 && report["images_per_s"].as_f64().unwrap() > 0.0, "{report}");
    }
}
