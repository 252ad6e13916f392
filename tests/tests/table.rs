//! `convmae table`: tables of results from run directories.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use convmae_framework::report::{RunDir, Summary};

use crate::support::{Folder, data, recipe, stderr, stdout};

/// A table of `tiny.yaml` and, once it is finetuned, of a classifier.
const TABLE: &str = "
title: Tiny
columns:
  - { name: Method, from: label }
  - { name: Params, from: parameters, stage: pretrain }
  - { name: Steps, from: step, stage: pretrain }
  - { name: loss, from: metrics.loss, stage: pretrain, digits: 3, best: min }
  - { name: top-1, from: metrics.top1, stage: finetune, digits: 1 }
rows:
  - { label: quoted, quoted: { loss: 0.5, source: a paper } }
  - label: ours
    stages:
      pretrain:
        recipe: ../tiny.yaml
        set: { train.length: 2 iterations, name: run }
      finetune:
        recipe: ../tiny_classifier.yaml
        set: { train.length: 2 iterations, init_from.run: runs/run }
    quoted: { loss: 0.9, source: another paper }
";

fn folder() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("tiny_classifier.yaml")).unwrap();
    fs::create_dir(folder.path("tables")).unwrap();
    fs::write(folder.path("tables/tiny.yaml"), TABLE).unwrap();
    folder
}

/// The cells of a row of a Markdown table.
fn row(markdown: &str, label: &str) -> Vec<String> {
    let line = markdown.lines().find(|line| line.starts_with(&format!("| {label}"))).unwrap();
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Whatever is known of a recipe without running it is in every row that names one; the others have figures
/// of papers or say why not.
fn computed_columns_are_there(path: &std::path::Path, text: &str, folder: &Folder) {
    let table: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
    let shown = stdout(&folder.succeeds(["table", path.to_str().unwrap()]));
    let (columns, rows) = (table["columns"].as_sequence().unwrap(), table["rows"].as_sequence().unwrap());
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect()))
        .skip(2)
        .collect();
    assert_eq!(lines.len(), rows.len(), "{}", path.display());
    for (row, line) in rows.iter().zip(&lines) {
        let has_runs = ["recipe", "stages", "sweep"].iter().any(|key| row.get(key).is_some());
        for (cell, column) in line.iter().zip(columns) {
            let from = column["from"].as_str().unwrap();
            let stage = column.get("stage").and_then(serde_yaml::Value::as_str);
            let has_stage = match (stage, row.get("stages")) {
                (Some(stage), Some(stages)) => stages.get(stage).is_some(),
                _ => true,
            };
            let is_computed = ["parameters", "gmacs"].contains(&from) || from.starts_with("recipe.");
            if is_computed && has_runs && has_stage {
                let end = cell.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
                let number: Result<f64, _> = cell[..end.unwrap_or(cell.len())].parse();
                assert!(number.is_ok_and(|number| number > 0.0), "{}: {from}: {line:?}", path.display());
            }
        }
        assert!(
            has_runs || row.get("quoted").is_some() || row.get("unavailable").is_some(),
            "{}: {row:?}",
            path.display()
        );
    }
}

#[test]
fn shipped_tables_are_right_and_name_the_commands_of_their_runs() {
    let folder = Folder::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(recipe("tables")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for format in ["markdown", "latex", "html"] {
            let title = text.lines().find_map(|line| line.strip_prefix("title: ")).unwrap();
            let shown = stdout(&folder.succeeds(["table", path.to_str().unwrap(), "--format", format]));
            assert!(shown.contains(title), "{} {format}: {shown}", path.display());
        }
        computed_columns_are_there(&path, &text, &folder);
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    assert!(names.len() >= 6 && names.iter().any(|name| name == "cifar10_ablations"), "{names:?}");
    let imagenet = recipe("tables/imagenet.yaml");
    let text = stdout(&folder.succeeds(["table", imagenet.to_str().unwrap()]));
    let cells = row(&text, "ConvMAE-B[");
    assert_eq!(&cells[1..4], ["85", "23.1", "1600"], "{text}");
    assert!(cells[4].starts_with("– (**paper 85.0**)[^"), "{text}");
    assert!(text.contains("There is no run in `runs/convmae_base_finetune` yet: `convmae run "), "{text}");
    let ablations = stdout(&folder.succeeds(["table", recipe("tables/ablations.yaml").to_str().unwrap()]));
    assert!(
        ablations.contains("yet: `convmae sweep ") && ablations.contains("convmae_base.yaml`"),
        "{ablations}"
    );
}

#[test]
fn a_table_makes_its_runs_and_shows_them() {
    let folder = folder();
    let before = stdout(&folder.succeeds(["table", "tables/tiny.yaml"]));
    let missing = row(&before, "ours");
    assert!(missing[3].starts_with("– (paper 0.900)") && missing[4].starts_with('–'), "{before}");
    assert!(
        before.contains("`convmae run tiny.yaml --set 'train.length=2 iterations' --set name=run`"),
        "{before}"
    );

    let made = folder.succeeds(["table", "tables/tiny.yaml", "--run", "--sources"]);
    let after = stdout(&made);
    let cells = row(&after, "ours");
    assert_eq!(cells[2], "2");
    let loss: f64 = cells[3].trim_matches('*').split(' ').next().unwrap().trim_matches('*').parse().unwrap();
    assert!(loss > 0.0 && cells[3].contains("(paper 0.900, "), "{after}");
    assert!(!cells[4].contains('–'), "{after}");
    assert!(after.contains("- ours, pretrain: `runs/run` of `tiny.yaml`, digest `"), "{after}");
    assert!(row(&after, "quoted")[3].contains("0.500"), "{after}");

    // Nothing is made twice.
    let again = folder.succeeds(["table", "tables/tiny.yaml", "--run"]);
    assert!(!stderr(&again).contains("done: "), "{}", stderr(&again));

    // A run of another recipe is not shown as one of this.
    let changed = TABLE.replace(
        "set: { train.length: 2 iterations, name: run }",
        "set: { train.length: 3 iterations, name: run }",
    );
    fs::write(folder.path("tables/tiny.yaml"), changed).unwrap();
    let other = stdout(&folder.succeeds(["table", "tables/tiny.yaml"]));
    assert!(row(&other, "ours")[3].starts_with('–'), "{other}");
    let words = "`runs/run` is of another recipe and not shown: \
                 `train.length: \"2 iterations\" -> \"3 iterations\"`.";
    assert!(other.contains(words), "{other}");
}

#[test]
fn a_run_that_differs_in_speed_alone_is_of_the_recipe() {
    let folder = folder();
    let sets = ["--set", "train.length=2 iterations", "--set", "name=run", "--set", "data.workers=2"];
    folder.succeeds(["run", "tiny.yaml"].into_iter().chain(sets));
    let text = stdout(&folder.succeeds(["table", "tables/tiny.yaml"]));
    assert_eq!(row(&text, "ours")[2], "2", "{text}");
}

#[test]
fn runs_over_seeds_are_averaged() {
    let folder = folder();
    for seed in ["0", "1", "2"] {
        let (set, out) = (format!("seed={seed}"), format!("runs/seed_{seed}"));
        folder.succeeds([
            "run",
            "tiny.yaml",
            "--set",
            "train.length=1 iteration",
            "--set",
            &set,
            "--out",
            &out,
        ]);
    }
    let table = "
title: Seeds
columns: [{ name: Method, from: label }, { name: loss, from: metrics.loss, digits: 2 }]
rows:
  - { label: any, run: runs/seed_* }
  - { label: recipe, recipe: ../tiny.yaml, set: { train.length: 1 iteration }, run: [runs/seed_0, runs/seed_1] }
  - { label: gone, run: runs/gone_* }
";
    fs::write(folder.path("tables/seeds.yaml"), table).unwrap();
    let text = stdout(&folder.succeeds(["table", "tables/seeds.yaml"]));
    assert!(row(&text, "any")[1].contains(" ± ") && row(&text, "any")[1].ends_with("(3)"), "{text}");
    assert!(row(&text, "recipe")[1].ends_with("(2)"), "{text}");
    assert!(text.contains("Nothing matches `runs/gone_*`."), "{text}");
    folder.succeeds(["table", "tables/seeds.yaml", "--out", "seeds.csv"]);
    let csv = fs::read_to_string(folder.path("seeds.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("Method,loss,loss std,loss n"));
    assert!(csv.lines().nth(1).unwrap().ends_with(",3"), "{csv}");
}

#[test]
fn rows_show_parts_of_a_sweep() {
    let folder = folder();
    let sweep = "
name: masks
recipe: ../tiny.yaml
set: { train.length: 1 iteration }
sweep: { grid: { model.mask.type: [BlockwiseMasker, RandomMasker] }, seeds: 2 }
";
    fs::write(folder.path("tables/masks.yaml"), sweep).unwrap();
    let table = |masker: &str, stage: &str| {
        let row = format!("sweep: masks.yaml, where: {{ model.mask.type: {masker} }}{stage}");
        let text = format!(
            "title: Masks\ncolumns: [{{ name: Mask, from: label }}, {{ name: loss, from: metrics.loss }}]\nrows:\n- {{ label: a, {row} }}\n"
        );
        fs::write(folder.path("tables/table.yaml"), text).unwrap();
    };
    table("RandomMasker", "");
    let text = stdout(&folder.succeeds(["table", "tables/table.yaml"]));
    assert!(text.contains("2 of 2 runs are missing yet: `convmae sweep tables/masks.yaml`."), "{text}");
    let made = stdout(&folder.succeeds(["table", "tables/table.yaml", "--run"]));
    assert!(row(&made, "a")[1].contains(" ± ") && row(&made, "a")[1].ends_with("(2)"), "{made}");
    assert!(!made.contains("[^1]"), "{made}");
    table("RandomMaskr", "");
    folder.fails(["table", "tables/table.yaml"], 2, &["is never", "did you mean `RandomMasker`?"]);
    table("RandomMasker", ", stage: finetune");
    folder.fails(["table", "tables/table.yaml"], 2, &["the sweep has no stage `finetune`", "remove `stage`"]);
}

#[test]
fn mistakes_of_a_table_are_at_their_lines() {
    let folder = folder();
    fs::write(folder.path("tables/tiny.yaml"), TABLE.replace("best: min", "bset: min")).unwrap();
    let words = ["tables/tiny.yaml:7:", "columns.3.bset: unknown key", "did you mean `best`?"];
    folder.fails(["table", "tables/tiny.yaml"], 2, &words);
    fs::write(folder.path("tables/tiny.yaml"), TABLE.replace("stage: finetune, digits: 1", "stage: finetun"))
        .unwrap();
    folder.fails(
        ["table", "tables/tiny.yaml"],
        2,
        &["no row has a stage `finetun`", "did you mean `finetune`?"],
    );
}

#[test]
fn runs_that_differ_in_more_than_seeds_have_no_mean() {
    let folder = folder();
    let sweep = "
name: rates
recipe: ../tiny.yaml
set: { train.length: 1 iteration }
sweep: { grid: { optimizer.lr: [1.0e-3, 2.0e-3] } }
";
    fs::write(folder.path("tables/rates.yaml"), sweep).unwrap();
    let table = "
title: Rates
columns: [{ name: Rate, from: label }, { name: loss, from: metrics.loss }, { name: lr, from: recipe.optimizer.lr }]
rows:
  - { label: all, sweep: rates.yaml }
  - { label: one, sweep: rates.yaml, where: { optimizer.lr: 1.0e-3 } }
  - { label: any, run: 'runs/rates/*' }
";
    fs::write(folder.path("tables/table.yaml"), table).unwrap();
    let text = stdout(&folder.succeeds(["table", "tables/table.yaml", "--run"]));
    for (label, narrow) in [("all", "where"), ("any", "run")] {
        assert!(row(&text, label)[1].starts_with("–[^"), "{text}");
        let note = format!("different recipes: `optimizer.lr: 0.001 -> 0.002`. Narrow `{narrow}`.");
        assert!(text.contains(&note), "{text}");
    }
    assert!(row(&text, "one")[1].parse::<f64>().is_ok(), "{text}");
    assert_eq!(row(&text, "all")[2], "0.001, 0.002", "{text}");
}

#[test]
fn patterns_and_lists_stand_for_any_seed_and_for_no_directory() {
    let folder = folder();
    let sets = ["--set", "train.length=1 iteration", "--set", "seed=5", "--out", "runs/p_5"];
    folder.succeeds(["run", "tiny.yaml"].into_iter().chain(sets));
    let table = "
title: Patterns
columns: [{ name: Method, from: label }, { name: loss, from: metrics.loss }]
rows:
  - { label: pattern, recipe: ../tiny.yaml, set: { train.length: 1 iteration }, run: 'runs/p_*' }
  - { label: list, recipe: ../tiny.yaml, set: { train.length: 1 iteration }, run: [runs/./p_5] }
  - { label: none, recipe: ../tiny.yaml, run: 'runs/q_*' }
";
    fs::write(folder.path("tables/table.yaml"), table).unwrap();
    let text = stdout(&folder.succeeds(["table", "tables/table.yaml", "--run"]));
    for label in ["pattern", "list"] {
        assert!(row(&text, label)[1].parse::<f64>().is_ok(), "{text}");
    }
    assert!(text.contains("[^1]: Nothing matches `runs/q_*`.\n") && !text.contains("convmae run"), "{text}");
    assert_eq!(fs::read_dir(folder.path("runs")).unwrap().count(), 1);
}

#[test]
fn a_stage_whose_earlier_one_failed_is_not_run() {
    let folder = folder();
    fs::create_dir(folder.path("runs")).unwrap();
    fs::write(folder.path("runs/run"), "a file where the run should be").unwrap();
    let words = ["run is a file", "left out, for runs/run is not finished", "failed; the table shows"];
    folder.fails(["table", "tables/tiny.yaml", "--run"], 1, &words);
    assert_eq!(fs::read_dir(folder.path("runs")).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_table_that_is_stopped_or_killed_stops_its_run() {
    for signal in ["TERM", "KILL"] {
        let folder = folder();
        let long = TABLE.replace("2 iterations, name: run", "4000 iterations, name: run");
        fs::write(folder.path("tables/tiny.yaml"), long).unwrap();
        let mut command = folder.convmae(["table", "tables/tiny.yaml", "--run"]);
        let table = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let run = folder.path("runs/run");
        let wait_until = |what: &str, is_so: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !is_so() {
                assert!(start.elapsed() < Duration::from_mins(2), "{signal}: {what}");
                sleep(Duration::from_millis(20));
            }
        };
        wait_until("checkpoint", &|| {
            fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some())
        });
        let kill = format!("kill -{signal} {}", table.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let output = table.wait_with_output().unwrap();
        wait_until("end", &|| !RunDir::is_held(&run));
        let summary = Summary::read(&run.join("summary.json")).unwrap();
        assert_eq!(summary.get("status").unwrap(), "interrupted", "{signal}");
        assert!(!folder.path("runs/tiny_classifier").exists());
        if signal == "TERM" {
            let messages = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{messages}");
            assert!(messages.contains("stopped; the table shows what there is"), "{messages}");
        }
    }
}

#[test]
fn a_file_has_the_format_of_its_ending_or_none() {
    let folder = folder();
    folder.fails(["table", "tables/tiny.yaml", "--out", "x.pdf"], 2, &["x.pdf", "`.html`", "`--format`"]);
    assert!(!folder.path("x.pdf").exists());
    for (file, start) in
        [("x.md", "**Tiny**"), ("x.tex", "% "), ("x.csv", "Method,"), ("x.html", "<!DOCTYPE html>")]
    {
        folder.succeeds(["table", "tables/tiny.yaml", "--out", file]);
        assert!(fs::read_to_string(folder.path(file)).unwrap().starts_with(start), "{file}");
    }
    folder.succeeds(["table", "tables/tiny.yaml", "--out", "x.txt", "--format", "csv"]);
    assert!(fs::read_to_string(folder.path("x.txt")).unwrap().starts_with("Method,"));
}
