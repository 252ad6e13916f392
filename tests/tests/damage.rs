//! Files that were damaged or moved, and names that would control a terminal: a file is refused by name, left
//! out or made again, and what is healthy is not hidden.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::report::{MetricLog, RunDir, Split, Summary};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::support::{Folder, data, stderr, stdout};

fn case(name: &str) -> PathBuf {
    data("cases/reliability").join(name)
}

fn finished() -> Folder {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    folder
}

const RESUME: [&str; 5] = ["run", "tiny.yaml", "--out", "run", "--resume"];

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// The losses that a run has recorded.
fn losses(run: &Path) -> Vec<(u64, u64)> {
    let log = MetricLog::open(&run.join("metrics.parquet")).unwrap();
    let points = [Split::Train, Split::Val].into_iter().flat_map(|split| log.series(split, "loss"));
    points.map(|point| (point.step, point.value.to_bits())).collect()
}

#[test]
fn a_damaged_file_of_a_finished_run_is_restored_from_its_last_checkpoint() {
    let folder = finished();
    let run = folder.path("run");
    let weights = fs::read(run.join("model.safetensors")).unwrap();
    let recipe = fs::read(run.join("recipe.lock.yaml")).unwrap();
    let rows = losses(&run);
    for file in ["model.safetensors", "metrics.parquet", "recipe.lock.yaml"] {
        for damage in [flip_a_bit, truncate] {
            damage(&run.join(file));
            let assert = folder.succeeds(RESUME);
            let messages = stderr(&assert);
            assert!(messages.contains(&format!("run/{file}")), "{file}: {messages}");
            assert!(messages.contains("from the last checkpoint"), "{file}: {messages}");
            assert!(fs::read(run.join("model.safetensors")).unwrap() == weights, "{file}");
            assert!(fs::read(run.join("recipe.lock.yaml")).unwrap() == recipe, "{file}");
            assert_eq!(losses(&run), rows, "{file}");
            assert!(RunDir::inspect(&run).unwrap().is_finished(), "{file}");
        }
    }
}

/// Its checkpoints hold what its other files do.
#[test]
fn an_unfinished_run_goes_on_from_its_checkpoints_whatever_happened_to_its_other_files() {
    let folder = finished();
    let run = folder.path("run");
    let (weights, rows) = (fs::read(run.join("model.safetensors")).unwrap(), losses(&run));
    fs::remove_file(run.join("model.safetensors")).unwrap();
    for file in ["metrics.parquet", "summary.json", "recipe.lock.yaml"] {
        truncate(&run.join(file));
    }
    let messages = stderr(&folder.succeeds(RESUME));
    assert!(messages.contains("resumed at step 12 of 12"), "{messages}");
    assert!(fs::read(run.join("model.safetensors")).unwrap() == weights);
    assert_eq!(losses(&run), rows);
    assert!(RunDir::inspect(&run).unwrap().is_finished());
}

#[test]
fn damaged_weights_are_refused_by_whoever_reads_them() {
    let folder = finished();
    flip_a_bit(&folder.path("run/model.safetensors"));
    let words = ["run/model.safetensors: ", "altered"];
    folder.fails(["eval", "run"], 1, &words);
    fs::copy(data("tiny_classifier.yaml"), folder.path("tiny_classifier.yaml")).unwrap();
    folder.fails(["run", "tiny_classifier.yaml", "--out", "cls"], 2, &words);
    flip_a_bit(&folder.path("run/recipe.lock.yaml"));
    folder.fails(
        ["eval", "run"],
        1,
        &["run/recipe.lock.yaml is not a valid resolved recipe", "it was altered"],
    );
}

#[test]
fn damage_that_no_checkpoint_mends_is_refused_by_name() {
    let folder = finished();
    fs::remove_dir_all(folder.path("run/checkpoints")).unwrap();
    // Without checkpoints it is finished all the same.
    assert!(stderr(&folder.succeeds(RESUME)).contains("is finished"));
    flip_a_bit(&folder.path("run/model.safetensors"));
    let words = ["run/model.safetensors", "altered", "no checkpoint to restore it from", "remove the file"];
    folder.fails(RESUME, 2, &words);
}

#[test]
fn a_sweep_restores_a_damaged_run() {
    let folder = Folder::new();
    let text = "name: s\nrecipe: tiny.yaml\nset: { train.length: 2 iterations }\nsweep: { seeds: 2 }\n";
    fs::write(folder.path("sweep.yaml"), text).unwrap();
    folder.succeeds(["sweep", "sweep.yaml"]);
    let weights = folder.path("runs/s/seed-1/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for damage in [flip_a_bit, truncate] {
        damage(&weights);
        let messages = stderr(&folder.succeeds(["sweep", "sweep.yaml"]));
        assert!(messages.contains("1 of 2 runs are finished already"), "{messages}");
        assert!(fs::read(&weights).unwrap() == whole);
    }
    assert!(stderr(&folder.succeeds(["sweep", "sweep.yaml"])).contains("2 of 2 runs are finished already"));
}

#[test]
fn a_damaged_run_does_not_hide_the_healthy_one_beside_it() {
    let folder = finished();
    fs::create_dir(folder.path("runs")).unwrap();
    fs::rename(folder.path("run"), folder.path("runs/a")).unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "runs/b", "--set", "train.length=1 iteration"]);
    fs::copy(case("metrics-polars-panics.parquet"), folder.path("runs/b/metrics.parquet")).unwrap();
    let messages = stderr(&folder.succeeds(["report", "runs", "--out", "page.html"]));
    assert!(messages.contains("1 runs: page.html"), "{messages}");
    assert!(messages.contains("runs/b/metrics.parquet") && messages.contains("left out"), "{messages}");
    assert!(!messages.contains("panicked at"), "{messages}");
    // `runs` reads recipes and summaries.
    flip_a_bit(&folder.path("runs/b/recipe.lock.yaml"));
    let listed = folder.succeeds(["runs"]);
    let (rows, messages) = (stdout(&listed), stderr(&listed));
    assert!(rows.lines().any(|row| row.starts_with("a ") && row.contains("finished")), "{rows}");
    assert!(rows.lines().any(|row| row.starts_with("b ") && row.contains("unreadable")), "{rows}");
    assert!(messages.contains("runs/b/recipe.lock.yaml"), "{messages}");
}

#[test]
fn a_damaged_cache_of_runs_is_made_again() {
    let folder = finished();
    let cache = folder.path(".convmae-runs.parquet");
    let whole = stdout(&folder.succeeds(["runs", "."]));
    for damaged in ["runs-cache-polars-panics-1.parquet", "runs-cache-polars-panics-2.parquet"] {
        fs::copy(case(damaged), &cache).unwrap();
        let listed = folder.succeeds(["runs", "."]);
        assert_eq!(stdout(&listed), whole);
        assert!(!stderr(&listed).contains("panicked"), "{}", stderr(&listed));
        assert!(fs::read(&cache).unwrap() != fs::read(case(damaged)).unwrap());
    }
}

#[test]
fn a_report_of_values_that_no_run_has_comes_to_an_end() {
    let folder = finished();
    fs::copy(case("metrics-loss-1e-310.parquet"), folder.path("run/metrics.parquet")).unwrap();
    folder.succeeds(["report", "run", "--out", "page.html"]);
    assert!(fs::read_to_string(folder.path("page.html")).unwrap().contains("<svg"));
}

/// A sweep of a chain, and a table of it.
fn chain() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("tiny_classifier.yaml")).unwrap();
    let sweep = "\
name: s
stages:
  pretrain: { recipe: tiny.yaml, set: { train.length: 2 iterations } }
  finetune: { recipe: tiny_classifier.yaml, init_from: pretrain, set: { train.length: 2 iterations } }
sweep: { seeds: 1 }
";
    let table = "\
title: S
columns: [{ name: Method, from: label }, { name: top-1, from: metrics.top1 }]
rows: [{ label: ours, sweep: chain.yaml }]
";
    fs::write(folder.path("chain.yaml"), sweep).unwrap();
    fs::write(folder.path("table.yaml"), table).unwrap();
    folder
}

#[test]
fn a_chain_is_the_same_one_from_any_folder() {
    let folder = chain();
    let out = folder.path("out");
    folder.succeeds(["sweep", "chain.yaml", "--out", out.to_str().unwrap()]);
    fs::create_dir(folder.path("elsewhere")).unwrap();
    for out in [out.to_str().unwrap(), "../out"] {
        let mut command = folder.convmae(["sweep", "../chain.yaml", "--out", out]);
        let output = command.current_dir(folder.path("elsewhere")).output().unwrap();
        let messages = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{messages}");
        assert!(messages.contains("2 of 2 runs are finished already"), "{messages}");
    }
}

#[test]
fn moved_results_keep_their_tables() {
    let folder = chain();
    folder.succeeds(["sweep", "chain.yaml"]);
    let shown =
        |runs: &str| stdout(&folder.succeeds(["table", "table.yaml", "--runs", runs, "--format", "csv"]));
    let before = shown("runs");
    let figure = before.lines().nth(1).and_then(|row| row.split(',').nth(1)?.parse::<f64>().ok());
    assert!(figure.is_some(), "{before}");
    fs::rename(folder.path("runs"), folder.path("results")).unwrap();
    assert_eq!(shown("results"), before);
    // Another run in the place of the source is another source.
    let again =
        ["run", "tiny.yaml", "--set", "train.length=1 iteration", "--out", "results/s/pretrain/seed-0"];
    fs::remove_dir_all(folder.path("results/s/pretrain/seed-0")).unwrap();
    folder.succeeds(again);
    assert_ne!(shown("results"), before);
}

#[test]
fn an_image_that_a_decoder_panics_on_is_named_and_replaced() {
    for image in ["png-short-palette-2.png", "png-decoder-panics-fuzzed.png", "jpeg-decoder-panics.jpg"] {
        let folder = Folder::new();
        for class in ["cat", "dog"] {
            fs::create_dir_all(folder.path("photos").join(class)).unwrap();
            for number in 0..4 {
                let path = folder.path(&format!("photos/{class}/{number}.png"));
                RgbImage::from_pixel(40, 36, Rgb([number * 20; 3])).save(path).unwrap();
            }
        }
        fs::copy(case(image), folder.path("photos/dog").join(image)).unwrap();
        let set = "data.train.dataset={ type: ImageFolder, root: photos }";
        let assert = folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", set]);
        let messages = stderr(&assert);
        assert!(messages.contains(&format!("photos/dog/{image}")), "{messages}");
        assert!(messages.contains("the decoder panicked") && !messages.contains("panicked at"), "{messages}");
        let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
        assert_eq!(summary.get("corrupt_samples").and_then(Value::as_u64), Some(1), "{image}");
        let file = format!("photos/dog/{image}");
        folder.fails(["predict", "run", &file], 1, &[&file]);
    }
}

#[test]
fn an_evaluation_tells_of_images_that_it_could_not_read() {
    let folder = finished();
    fs::create_dir(folder.path("photos")).unwrap();
    for number in 0..3 {
        RgbImage::from_pixel(32, 32, Rgb([number * 20; 3]))
            .save(folder.path(&format!("photos/{number}.png")))
            .unwrap();
    }
    fs::copy(case("png-short-palette-2.png"), folder.path("photos/3.png")).unwrap();
    let set = "data.val.dataset={ type: ImageFolder, root: photos, labelled: false }";
    let shown = stdout(&folder.succeeds(["eval", "run", "--set", set]));
    assert!(shown.starts_with("tiny: 3 images, 1 corrupt and replaced by others, run/"), "{shown}");
    let shown: Value =
        serde_json::from_str(&stdout(&folder.succeeds(["eval", "run", "--json", "--set", set]))).unwrap();
    assert_eq!((&shown["images"], &shown["corrupt_samples"]), (&3.into(), &1.into()));
    // Nothing can take the place of the only one.
    (0..3).for_each(|number| fs::remove_file(folder.path(&format!("photos/{number}.png"))).unwrap());
    folder.fails(
        ["eval", "run", "--set", set],
        1,
        &["all samples of the dataset are corrupt (1); the first: photos/3.png"],
    );
}

#[test]
fn messages_about_a_png_have_no_insides_of_the_decoder() {
    let folder = finished();
    RgbImage::new(4, 4).save(folder.path("a.png")).unwrap();
    let mut bytes = fs::read(folder.path("a.png")).unwrap();
    // The length of IHDR.
    bytes[11] = 12;
    fs::write(folder.path("a.png"), bytes).unwrap();
    let messages = stderr(&folder.convmae(["predict", "run", "a.png"]).assert().failure());
    assert!(messages.contains("a.png") && !messages.contains("ChunkType"), "{messages}");
}

#[test]
fn names_do_not_control_the_terminal() {
    let folder = Folder::new();
    fs::copy(case("escape-in-recipe.yaml"), folder.path("escape.yaml")).unwrap();
    let messages = stderr(&folder.convmae(["check", "escape.yaml"]).assert().failure());
    assert!(messages.contains("\\u{1b}[31m") && !messages.contains('\u{1b}'), "{messages}");
    fs::copy(case("escape-in-name.tar"), folder.path("escape.tar")).unwrap();
    let set = "data.train.dataset={ type: TarShards, shards: escape.tar }";
    let args = [
        "run",
        "tiny.yaml",
        "--out",
        "run",
        "--set",
        set,
        "--set",
        "data.train.batch_size=1",
        "--set",
        "train.accumulate=1",
    ];
    let messages = stderr(&folder.convmae(args).assert().failure());
    assert!(messages.contains("red.png") && !messages.contains('\u{1b}'), "{messages}");
}

#[test]
fn a_file_too_long_for_a_recipe_is_refused_at_once() {
    let folder = Folder::new();
    fs::write(folder.path("long.yaml"), format!("name: {}\n", "x".repeat(5_000_000))).unwrap();
    let start = std::time::Instant::now();
    folder.fails(["check", "long.yaml"], 2, &["cannot read `long.yaml`: it has more than 1000000 bytes"]);
    folder.fails(["sweep", "long.yaml"], 2, &["cannot read `long.yaml`: it has more than 1000000 bytes"]);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[cfg(unix)]
#[test]
fn a_pipe_that_a_recipe_extends_is_not_waited_for() {
    let folder = Folder::new();
    assert!(std::process::Command::new("mkfifo").arg(folder.path("base.yaml")).status().unwrap().success());
    fs::write(folder.path("recipe.yaml"), "extends: base.yaml\n").unwrap();
    folder.fails(["check", "recipe.yaml"], 2, &["cannot read `base.yaml`: it is no file"]);
}

#[test]
fn a_time_of_nothing_between_two_checkpoints_is_refused() {
    let folder = Folder::new();
    for (key, never) in [("checkpoint", "0 iterations"), ("evaluate", "0 epochs")] {
        let set = format!("{key}.every={never}");
        let words = format!("{key}.every: there is no time between two times");
        folder.fails(
            ["check", "tiny.yaml", "--set", &set],
            2,
            &[&words, "write `1 iteration` for every step"],
        );
    }
}
