//! `convmae table`: tables of results from run directories.

use std::fs;

use crate::support::{Folder, data, recipe, stderr, stdout};

const SHIPPED: [&str; 5] = ["imagenet", "coco", "ade20k", "ablations", "model_sizes"];

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

#[test]
fn shipped_tables_are_right_and_name_the_commands_of_their_runs() {
    let folder = Folder::new();
    for name in SHIPPED {
        let table = recipe(&format!("tables/{name}.yaml"));
        for format in ["markdown", "latex", "csv", "html"] {
            let text = stdout(&folder.succeeds(["table", table.to_str().unwrap(), "--format", format]));
            assert!(text.contains("ConvMAE-B") || text.contains("baseline"), "{name} {format}: {text}");
        }
    }
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
    assert!(text.contains("There is no run in `runs/gone_*`."), "{text}");
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
    folder.fails(
        ["table", "tables/table.yaml"],
        2,
        &["no run of the sweep has the value", "did you mean `RandomMasker`?"],
    );
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
