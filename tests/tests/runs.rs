//! `convmae runs`: tables of run directories.

use std::fs;

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
