//! `convmae runs`: tables of run directories.

use std::fs;

use convmae_framework::report::{MetricLog, Split};
use serde_json::Value;

use crate::support::{Folder, stderr, stdout};

/// Two short runs that differ in the learning rate.
fn two_runs() -> Folder {
    let folder = Folder::new();
    for (out, lr) in [("runs/a", "optimizer.lr=1e-3"), ("runs/deep/b", "optimizer.lr=2e-3")] {
        folder.succeeds(["run", "tiny.yaml", "--set", lr, "--set", "train.length=1 iteration", "--out", out]);
    }
    folder
}

fn json(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let args = ["runs", "--format", "json"].iter().chain(args).copied();
    serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap()
}

#[test]
fn runs_are_listed_with_what_they_differ_in() {
    let folder = two_runs();
    let table = stdout(&folder.succeeds(["runs"]));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["run", "status", "epoch", "seconds", "loss", "lr"]);
    assert_eq!(&lines[1][..2], ["a", "finished"]);
    assert_eq!(lines[2].last(), Some(&"0.002"));
    // And again from what was kept.
    assert!(folder.path("runs/.convmae-runs.parquet").is_file());
    assert_eq!(stdout(&folder.succeeds(["runs"])), table);
}

#[test]
fn runs_are_filtered_sorted_and_cut() {
    let folder = two_runs();
    let found = json(&folder, &["--where", "recipe.optimizer.lr = 2e-3", "--where", "status=finished"]);
    assert_eq!(found[0]["run"], "deep/b");
    assert_eq!(found.len(), 1);
    let sorted =
        json(&folder, &["--sort", "-recipe.optimizer.lr", "--columns", "run,metrics.*", "--limit", "1"]);
    assert_eq!(sorted[0]["run"], "deep/b");
    assert!(sorted[0]["metrics.loss"].is_f64() && sorted.len() == 1);
    let csv = stdout(&folder.succeeds(["runs", "--format", "csv", "--columns", "run,recipe.seed"]));
    assert_eq!(csv, "run,recipe.seed\na,0\ndeep/b,0\n");
}

#[test]
fn mistakes_in_a_question_are_explained() {
    let folder = two_runs();
    folder.fails(["runs", "--where", "metrics.top1 >"], 2, &["there is nothing after `>`"]);
    folder.fails(["runs", "--where", "loss > 1"], 2, &["no run has the column `loss`", "`metrics.loss`"]);
    folder.fails(["runs", "--columns", "sede"], 2, &["no run has the column `sede`", "did you mean `seed`?"]);
    folder.fails(["runs", "gone"], 1, &["cannot list gone"]);
    let nothing = folder.succeeds(["runs", "runs/a/checkpoints"]);
    assert_eq!(stderr(&nothing), "there are no runs in runs/a/checkpoints\n");
}

#[test]
fn of_no_runs_there_is_an_empty_table() {
    let folder = Folder::new();
    fs::create_dir(folder.path("runs")).unwrap();
    folder.fails(["runs", "--where", "metrics.top1 >"], 2, &["there is nothing after `>`"]);
    folder.fails(
        ["runs", "--where", "sede = 1"],
        2,
        &["no run has the column `sede`", "did you mean `seed`?"],
    );
    let condition =
        ["--where", "metrics.top1 > 80", "--where", "recipe.optimizer.lr=1e-3", "--sort", "-metrics.top1"];
    let printed =
        |args: &[&str]| stdout(&folder.succeeds(["runs"].iter().chain(&condition).chain(args).copied()));
    assert_eq!(json(&folder, &condition), Vec::<Value>::new());
    assert_eq!(printed(&["--format", "csv"]), "run,status\n");
    assert_eq!(printed(&["--format", "markdown"]), "| run | status |\n| --- | --- |\n");
    assert_eq!(printed(&["--columns", "run,metrics.top1,train.*"]), "run  metrics.top1\n");
}

#[test]
fn a_column_that_no_run_has_yet_is_null() {
    let folder = two_runs();
    let count = |condition: &str| json(&folder, &["--where", condition]).len();
    assert_eq!(count("recipe.model.head.dropout = null"), 2);
    assert_eq!(count("recipe.model.head.dropout != 0.5"), 2);
    assert_eq!(count("metrics.accuracy > 80"), 0);
    folder.fails(["runs", "--where", "metrics.los > 1"], 2, &["did you mean `metrics.loss`?"]);
    let csv = stdout(&folder.succeeds(["runs", "--format", "csv", "--columns", "run,metrics.accuracy"]));
    assert_eq!(csv, "run,metrics.accuracy\na,\ndeep/b,\n");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_listed_all_the_same() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = two_runs();
    let runs = folder.path("runs");
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(json(&folder, &[]).len(), 2);
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A run of twelve steps with an evaluation and a checkpoint after each, all of which are kept.
fn checkpointed() -> Folder {
    let folder = Folder::new();
    let sets =
        ["evaluate.every=1 iteration", "checkpoint={ every: 1 iteration, keep: 99 }", "evaluate.pictures=0"];
    let args =
        ["run", "tiny.yaml", "--out", "runs/a"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
    folder.succeeds(args);
    folder
}

fn steps(folder: &Folder, run: &str) -> Vec<u64> {
    let entries = fs::read_dir(folder.path(run).join("checkpoints")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut steps: Vec<u64> = names
        .filter_map(|name| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}

/// Evaluated steps, from the best on.
fn ranked(folder: &Folder, run: &str) -> Vec<u64> {
    let log = MetricLog::open(&folder.path(run).join("metrics.parquet")).unwrap();
    let mut points = log.series(Split::Val, "loss");
    points.sort_by(|a, b| a.value.total_cmp(&b.value));
    points.into_iter().map(|point| point.step).collect()
}

#[test]
fn a_run_keeps_the_checkpoints_that_its_recipe_says() {
    let folder = Folder::new();
    let sets = [
        "evaluate.every=1 iteration",
        "checkpoint={ every: 12 iterations, keep: 1, keep_best: 3, keep_every: 5 iterations }",
        "evaluate.pictures=0",
    ];
    let args =
        ["run", "tiny.yaml", "--out", "a"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
    folder.succeeds(args);
    let mut expected: Vec<u64> = ranked(&folder, "a")[..3].iter().copied().chain([5, 10, 12]).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(steps(&folder, "a"), expected);
    let wrong = ["check", "tiny.yaml", "--set", "checkpoint.keep_every=0 epochs"];
    folder.fails(wrong, 2, &["checkpoint.keep_every: there is no time between two times"]);
}

#[test]
fn checkpoints_are_pruned_by_a_rule_and_the_last_one_stays() {
    let folder = checkpointed();
    let all: Vec<u64> = (1..=12).collect();
    assert_eq!(steps(&folder, "runs/a"), all);
    let prune = |more: &[&str]| {
        let args = ["runs", "prune"].into_iter().chain(more.iter().copied());
        let assert = folder.succeeds(args);
        stdout(&assert) + &stderr(&assert)
    };
    // Its own rule keeps all.
    assert!(prune(&[]).contains("0 checkpoints removed"));
    let ranked = ranked(&folder, "runs/a");
    let mut expected = vec![4, 8, 12, 11, ranked[0], ranked[1], ranked[2]];
    expected.sort_unstable();
    expected.dedup();
    let rule = ["--keep", "2", "--keep-best", "3", "--keep-every", "4 iterations"];
    let told = prune(&[&rule[..], &["--dry-run"]].concat());
    let count = format!("{} checkpoints would be removed", 12 - expected.len());
    assert!(told.contains(&count) && told.contains("a: would go step-000000"), "{told}");
    assert_eq!(steps(&folder, "runs/a"), all);
    assert!(prune(&[&rule[..], &["--where", "status = failed"]].concat()).contains("0 checkpoints removed"));
    let told = prune(&rule);
    assert!(told.contains(&format!("{} left", expected.len())), "{told}");
    assert_eq!(steps(&folder, "runs/a"), expected);

    // The newest one is what a run is trained longer from.
    prune(&["--keep", "1", "--keep-best", "0"]);
    assert_eq!(steps(&folder, "runs/a"), [12]);
    let resume = ["run", "runs/a", "--resume"];
    assert!(stderr(&folder.succeeds(resume)).contains("the run in runs/a is finished"));
    prune(&["--last", "--keep-best", "0"]);
    assert!(steps(&folder, "runs/a").is_empty());
    assert!(!folder.path("runs/a/checkpoints/last.json").exists());
    assert!(stderr(&folder.succeeds(resume)).contains("the run in runs/a is finished"));
    folder.fails(["run", "runs/a", "--extend", "2 iterations"], 2, &["there is no checkpoint of its end"]);
}

#[test]
fn the_best_checkpoint_alone_leaves_a_finished_run_finished() {
    let folder = checkpointed();
    folder.succeeds(["runs", "prune", "--last"]);
    let page = fs::read(folder.path("runs/a/report.html")).unwrap();
    let best = ranked(&folder, "runs/a")[0];
    assert_eq!(steps(&folder, "runs/a"), [best]);
    if best < 12 {
        let told = stderr(&folder.succeeds(["run", "runs/a", "--resume"]));
        assert!(told.contains("the run in runs/a is finished"), "{told}");
        folder.fails(
            ["run", "runs/a", "--extend", "2 iterations"],
            2,
            &["there is no checkpoint of its end"],
        );
    }
    assert_eq!(fs::read(folder.path("runs/a/report.html")).unwrap(), page);
}

#[test]
fn an_interrupted_run_keeps_its_newest_checkpoint_whatever_is_asked() {
    let folder = checkpointed();
    let path = folder.path("runs/a/summary.json");
    let mut summary: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    summary["status"] = "interrupted".into();
    fs::write(&path, summary.to_string()).unwrap();
    folder.succeeds(["runs", "prune", "--keep", "1", "--last", "--keep-best", "0"]);
    assert_eq!(steps(&folder, "runs/a"), [12]);
}

#[test]
fn runs_tell_the_room_that_they_take() {
    let folder = checkpointed();
    let sized = json(&folder, &["--size"]);
    let (size, share) =
        (sized[0]["size_mb"].as_f64().unwrap(), sized[0]["checkpoints_percent"].as_f64().unwrap());
    let bytes = |path: &str| {
        fs::read_dir(folder.path(path)).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len())
    };
    let checkpoints = bytes("runs/a/checkpoints").sum::<u64>() as f64;
    assert!((size * share / 100.0 - checkpoints / 1e6).abs() < 0.06, "{size}, {share}, {checkpoints}");
    let header = stdout(&folder.succeeds(["runs", "--size"]));
    assert!(header.lines().next().unwrap().contains("size_mb") && share > 10.0);
    folder.succeeds(["runs", "prune", "--keep", "1", "--keep-best", "0"]);
    assert!(
        json(&folder, &["--size", "--where", "size_mb > 0"])[0]["checkpoints_percent"].as_f64().unwrap()
            < share
    );
}

#[test]
fn weights_are_named_best_and_last() {
    let folder = checkpointed();
    folder.succeeds(["runs", "prune", "--keep", "1"]);
    let ranked = ranked(&folder, "runs/a");
    let figure = |weights: &str| -> f64 {
        let args = ["eval", "runs/a", "--weights", weights, "--json"];
        serde_json::from_str::<Value>(&stdout(&folder.succeeds(args))).unwrap()["metrics"]["loss"]
            .as_f64()
            .unwrap()
    };
    let log = MetricLog::open(&folder.path("runs/a/metrics.parquet")).unwrap();
    let points = log.series(Split::Val, "loss");
    let logged = |step: u64| points.iter().find(|point| point.step == step).unwrap().value;
    assert!((figure("best") - logged(ranked[0])).abs() < 1e-6);
    assert!((figure("last") - logged(12)).abs() < 1e-6);
    folder.succeeds([
        "export",
        "runs/a",
        "--node",
        "backbone",
        "--weights",
        "best",
        "--out",
        "best.safetensors",
    ]);
    folder.fails(["eval", "tiny.yaml", "--weights", "best"], 2, &["--weights best: of which run?"]);
    folder.succeeds(["runs", "prune", "--last", "--keep-best", "0"]);
    folder.fails(["eval", "runs/a", "--weights", "best"], 2, &["runs/a: there is no best checkpoint"]);
}

#[test]
fn all_keys_that_differ_are_listed() {
    let folder = Folder::new();
    let sets = ["optimizer.lr=1e-3", "optimizer.weight_decay=0.1", "model.mask.mask_ratio=0.5"];
    let more = ["train.ema.decay=0.5", "schedule.warmup=1 iteration", "model.decoder.depth=2", "seed=3"];
    let sets = sets.iter().chain(&more).flat_map(|set| ["--set", set]);
    folder.succeeds(["run", "tiny.yaml", "--set", "train.length=1 iteration", "--out", "runs/a"]);
    folder.succeeds(
        ["run", "tiny.yaml", "--set", "train.length=1 iteration", "--out", "runs/b"].into_iter().chain(sets),
    );
    let table = stdout(&folder.succeeds(["runs"]));
    let names: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    for name in ["seed", "mask_ratio", "depth", "weight_decay", "warmup", "decay"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[test]
fn two_runs_are_compared_by_recipe_and_figures() {
    let folder = two_runs();
    let text = stdout(&folder.succeeds(["diff", "runs/a", "runs/deep/b"]));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = text.lines().map(words).collect();
    assert_eq!(lines[0], ["recipe", "runs/a", "runs/deep/b"]);
    assert_eq!(lines[1], ["optimizer.lr", "0.001", "0.002"]);
    assert!(lines.iter().any(|line| line.first().is_some_and(|name| name == "seconds") && line.len() == 4));
    let json: Value =
        serde_json::from_str(&stdout(&folder.succeeds(["diff", "tiny.yaml", "runs/deep/b", "--json"])))
            .unwrap();
    assert_eq!(json["recipe"]["optimizer.lr"], serde_json::json!([0.001, 0.002]));
    assert_eq!(json["recipe"]["train.length"], serde_json::json!(["12 iterations", "1 iteration"]));
    assert_eq!(json["figures"], serde_json::json!({}), "a recipe has none");
    let same = stdout(&folder.succeeds(["diff", "tiny.yaml", "tiny.yaml"]));
    assert_eq!(same, "The recipes are the same in all that changes results.\n");
    folder.fails(
        ["diff", "runs/a", "runs/gone"],
        2,
        &["runs/gone: there is no such run or recipe", "runs/a"],
    );
}
