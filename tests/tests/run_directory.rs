//! What a run leaves behind.

use std::fs;

use convmae_framework::report::{MetricLog, Split, Summary};
use convmae_framework::weights;
use serde_json::Value;

use crate::support::{Folder, stderr};

fn finished() -> Folder {
    let folder = Folder::new();
    let assert = folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    assert!(stderr(&assert).ends_with("done: run/report.html\n"), "{}", stderr(&assert));
    folder
}

#[test]
fn every_file_of_the_contract_is_there() {
    let folder = finished();
    for file in [
        "recipe.lock.yaml",
        "metrics.parquet",
        "environment.json",
        "log.jsonl",
        "summary.json",
        "report.html",
        "report.json",
        "model.safetensors",
        "checkpoints/last.json",
        "checkpoints/best.json",
        "checkpoints/step-00000012.safetensors",
        "pictures/step-00000000.png",
        "pictures/step-00000012.png",
    ] {
        assert!(folder.path("run").join(file).is_file(), "{file}");
    }
    let checkpoints = fs::read_dir(folder.path("run/checkpoints")).unwrap();
    assert!(checkpoints.count() <= 5, "two checkpoints, the best, and two pointers");
}

#[test]
fn a_run_without_out_goes_by_its_name() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--set", "train.length=1 iteration"]);
    assert!(folder.path("runs/tiny/report.html").is_file());
}

#[test]
fn metrics_have_a_row_per_figure_and_step() {
    let folder = finished();
    let metrics = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
    assert_eq!(metrics.names(Split::Val), ["loss"]);
    for name in ["loss", "grad_norm", "lr"] {
        let series = metrics.series(Split::Train, name);
        assert_eq!(series.iter().map(|point| point.step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
        assert!(series.iter().all(|point| point.value.is_finite()), "{name}");
    }
    let evaluated: Vec<_> = metrics.series(Split::Val, "loss").iter().map(|point| point.step).collect();
    assert_eq!(evaluated, [6, 12]);
}

#[test]
fn the_summary_is_flat_and_agrees_with_the_metrics() {
    let folder = finished();
    // Reading refuses nested values.
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    let metrics = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
    let last = metrics.series(Split::Val, "loss").last().unwrap().value;
    assert_eq!(summary.get("val.loss").and_then(Value::as_f64), Some(last));
    assert_eq!(summary.get("status").and_then(Value::as_str), Some("finished"));
    assert_eq!(summary.get("step").and_then(Value::as_u64), Some(12));
    assert_eq!(summary.get("corrupt_samples").and_then(Value::as_u64), Some(0));
    let parameters = weights::read(&folder.path("run/model.safetensors")).unwrap().tensors.elements();
    assert_eq!(summary.get("parameters").and_then(Value::as_u64), Some(parameters as u64));
}

#[test]
fn the_report_is_one_file_with_curves_and_pictures() {
    let html = fs::read_to_string(finished().path("run/report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("src=\"data:image/png;base64,"));
    for caption in ["masked", "reconstruction", "original"] {
        assert!(html.contains(caption), "{caption}");
    }
    // Nothing is loaded from elsewhere.
    for outside in ["http:", "https:", "<script src", "<link", "@import"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

/// A run killed before its page was there, or one whose page was removed.
#[test]
fn a_finished_run_without_its_page_gets_it_when_resumed() {
    let folder = finished();
    let page = || fs::read_to_string(folder.path("run/report.html")).unwrap();
    let without_time = |page: String| page.rsplit_once("<footer>").map(|(page, _)| page.to_owned());
    let before = page();
    fs::remove_file(folder.path("run/report.html")).unwrap();
    let assert = folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume"]);
    assert!(stderr(&assert).contains("is finished"), "{}", stderr(&assert));
    assert_eq!(without_time(page()), without_time(before));
}

#[test]
fn the_log_is_json_lines() {
    let log = fs::read_to_string(finished().path("run/log.jsonl")).unwrap();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["message"].is_string() && event["level"].is_string(), "{line}");
    }
}

#[test]
fn the_resolved_recipe_gives_the_same_weights() {
    let folder = finished();
    folder.succeeds(["run", "run/recipe.lock.yaml", "--out", "again"]);
    let weights = |run: &str| fs::read(folder.path(run).join("model.safetensors")).unwrap();
    assert!(weights("run") == weights("again"));
}

#[test]
fn the_weights_go_to_pytorch_and_back() {
    let folder = finished();
    folder.succeeds(["convert", "run/model.safetensors", "model.pth"]);
    folder.succeeds(["convert", "model.pth", "back.safetensors"]);
    let tensors = |name: &str| weights::read(&folder.path(name)).unwrap().tensors;
    assert_eq!(tensors("back.safetensors"), tensors("run/model.safetensors"));
    // Both are weights that the program takes.
    let checkpoint = "run/checkpoints/step-00000012.safetensors";
    assert_eq!(tensors(checkpoint).len(), tensors("model.pth").len());
}

#[test]
fn more_workers_than_cores_and_a_ragged_last_batch_are_fine() {
    let folder = Folder::new();
    folder.succeeds([
        "run",
        "tiny.yaml",
        "--out",
        "run",
        "--set",
        "data.workers=9",
        "--set",
        "data.prefetch=1",
        "--set",
        "data.train.dataset.length=23",
        "--set",
        "train.length=2 epochs",
    ]);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    // 23 images are 5 batches, 2 steps of 2 batches.
    assert_eq!(summary.get("step").and_then(Value::as_u64), Some(4));
}
