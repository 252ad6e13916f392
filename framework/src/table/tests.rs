#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Table;
use super::fill::fill;
use super::plan::{Known, RequiredRun, RowPlan};
use super::render::Format;
use super::runs::{Found, State};
use super::sheet::{Cell, Content, Heading, Sheet, SourceRun};
use super::spec::TableSpec;
use crate::graph::catalog;
use crate::metrics::Spread;
use crate::recipe::{Diagnostics, Sources, read};
use crate::report::RunDir;

fn text(text: &str) -> Cell {
    Cell { ours: Some(Content::Text(text.to_owned())), ..Cell::default() }
}

fn figure(values: &[f64], paper: Option<f64>) -> Cell {
    Cell { ours: Spread::of(values).map(Content::Figure), paper, awaited: true, ..Cell::default() }
}

/// One of everything, with the letters that formats trip over.
fn sheet() -> Sheet {
    let heading = |name: &str, digits, numeric| Heading {
        name: name.to_owned(),
        digits,
        numeric,
        measured: numeric,
        paired: false,
        quoted: numeric,
        has_differences: false,
    };
    Sheet {
        title: "Results on A & B_1 <100%>".to_owned(),
        description: "Mean ± deviation; `code`.".to_owned(),
        columns: vec![heading("Method", None, false), heading("top-1 | %", Some(1), true)],
        rows: vec![
            vec![text("MAE, \"ViT\" & more"), Cell { paper: Some(83.6), notes: vec![0], ..Cell::default() }],
            vec![text("ours_1"), Cell { best: true, ..figure(&[84.0, 84.2, 84.1], Some(85.0)) }],
            vec![text("above"), figure(&[85.25], Some(85.0))],
            vec![text("missing"), Cell { notes: vec![1], ..figure(&[], Some(85.0)) }],
            vec![text("nothing"), Cell::default()],
        ],
        notes: vec![
            "Quoted.".to_owned(),
            "There is no run in `runs/a_b` yet: `convmae run a.yaml`.".to_owned(),
        ],
        sources: vec![SourceRun {
            row: 1,
            label: "ours_1".to_owned(),
            stage: "finetune".to_owned(),
            directory: "runs/a".to_owned(),
            recipe: "a.yaml".to_owned(),
            digest: "0123456789abcdef".to_owned(),
            commit: Some("fedcba9876543210".to_owned()),
        }],
    }
}

#[test]
fn every_format_shows_figures_papers_and_notes() {
    insta::assert_snapshot!("markdown", sheet().render(Format::Markdown, true));
    insta::assert_snapshot!("latex", sheet().render(Format::Latex, true));
    insta::assert_snapshot!("csv", sheet().render(Format::Csv, true));
    // The head of a page is that of every page, and its foot has the time.
    let html = sheet().render(Format::Html, true);
    let body = html[html.find("<header>").unwrap()..].split("<footer>").next().unwrap();
    assert!(html.contains("Content-Security-Policy"));
    insta::assert_snapshot!("html", body);
}

/// Loads a table of this text.
fn load(text: &str) -> Result<Table, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("table.yaml"), text).unwrap();
    Table::load(&folder.path().join("table.yaml"), Path::new("runs")).map_err(|error| match error {
        super::TableError::File(diagnostics) => diagnostics,
        other => panic!("{other}"),
    })
}

const HEAD: &str =
    "title: t\ncolumns:\n- { name: Method, from: label }\n- { name: top-1, from: metrics.top1 }\nrows:\n";

#[test]
fn mistakes_are_at_their_lines() {
    for (rows, line, words, advice) in [
        ("- { lable: a, unavailable: x }", 6, "rows.0.lable: unknown key", "did you mean `label`?"),
        ("- { label: a }", 6, "rows.0: the row shows nothing", "`quoted` figures"),
        (
            "- { label: a, quoted: { top1: 3, source: s } }",
            6,
            "quoted.top1: there is no such column",
            "`top-1`",
        ),
        ("- { label: a, quoted: { top-1: 3 } }", 6, "quoted.source: the required key is missing", ""),
        ("- { label: a, quoted: { top-1: x, source: s } }", 6, "quoted.top-1: expected a number", ""),
        ("- { label: a, sweep: s.yaml, run: runs/a }", 6, "`recipe` or `sweep`, not both", "two rows"),
        ("- { label: a, run: runs/a, where: { x: 1 } }", 6, "`where` goes with `sweep`", ""),
        ("- { label: a, run: runs/a, set: { x: 1 } }", 6, "`set` goes with `recipe`", ""),
        (
            "- label: a\n  recipe: gone.yaml",
            7,
            "rows.0.recipe: there is no file",
            "relative to the table's file",
        ),
        ("- label: a\n  sweep: gone.yaml", 7, "rows.0.sweep: there is no file", ""),
        ("- { label: a, run: 'runs/***' }", 6, "rows.0.run: `runs/***` is no pattern", "any part of a name"),
    ] {
        let diagnostics = load(&format!("{HEAD}{rows}\n")).unwrap_err();
        let finding = &diagnostics.findings()[0];
        assert!(finding.to_string().contains(words), "{rows}: {finding}");
        assert_eq!(finding.position().map(|(line, _)| line), Some(line), "{rows}");
        assert!(finding.help.as_deref().unwrap_or_default().contains(advice), "{rows}: {:?}", finding.help);
    }
}

#[test]
fn columns_that_show_nothing_are_refused() {
    for (column, words, advice) in [
        ("{ name: x, from: parameter }", "`parameter` is nothing that a table can show", "`parameters`"),
        ("{ name: x, from: top1 }", "`top1` is nothing", "`metrics.NAME`"),
        ("{ name: x, from: metrics. }", "nothing that a table can show", ""),
        ("{ name: x, from: label, digits: 99 }", "columns.0.digits: 99 is out of range", ""),
        ("{ name: x, from: label, best: most }", "columns.0.best: expected one of `max`, `min`", ""),
        ("{ name: x, from: label }\n- { name: x, from: label }", "there is a column `x` already", ""),
    ] {
        let diagnostics = load(&format!("title: t\ncolumns:\n- {column}\nrows: []\n")).unwrap_err();
        let finding = &diagnostics.findings()[0];
        assert!(finding.to_string().contains(words), "{column}: {finding}");
        assert!(finding.help.as_deref().unwrap_or_default().contains(advice), "{column}: {:?}", finding.help);
    }
}

fn run(directory: &Path, summary: &serde_json::Value) {
    drop(RunDir::create(directory, "name: a\ntrain: { length: 2 epochs }\n").unwrap());
    fs::write(directory.join("summary.json"), summary.to_string()).unwrap();
}

fn required(directory: PathBuf) -> RequiredRun {
    RequiredRun {
        stage: String::new(),
        directory,
        is_pattern: false,
        known: None,
        command: Some(vec!["run".into(), "a b.yaml".into()]),
    }
}

#[test]
fn runs_are_averaged_and_what_is_missing_is_said() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    run(&path("0"), &json!({ "status": "finished", "val.top1": 80.0, "parameters": 5_000_000 }));
    run(&path("1"), &json!({ "status": "finished", "val.top1": 82.0, "parameters": 5_000_000 }));
    run(&path("2"), &json!({ "status": "failed", "val.top1": 9.0 }));
    run(&path("3"), &json!({ "status": "finished", "val.loss": 1.0 }));
    let runs = ["0", "1", "2", "3", "gone"].map(|name| required(path(name)));
    let plans = [RowPlan { runs: runs.into(), last_stage: String::new() }];
    let spec: TableSpec = serde_json::from_value(json!({
        "title": "t",
        "columns": [
            { "name": "Method", "from": "label" },
            { "name": "top-1", "from": "metrics.top1", "digits": 1 },
            { "name": "M", "from": "parameters", "scale": 1e-6 },
            { "name": "Epochs", "from": "recipe.train.length", "digits": 0 },
        ],
        "rows": [{ "label": "a", "quoted": { "top-1": 80.5, "source": "a paper" } }],
    }))
    .unwrap();
    let found = Found::look(&plans).unwrap();
    assert_eq!(*found.of(0, 2), State::Unfinished("failed".to_owned()));
    let sheet = fill(&spec, &plans, &found);
    let texts: Vec<_> =
        sheet.rows[0].iter().zip(&sheet.columns).map(|(cell, column)| cell.text(column)).collect();
    assert_eq!(texts[1], ("81.0 ± 1.4 (2)".to_owned(), Some("paper 80.5, +0.5".to_owned())));
    assert_eq!(texts[2].0, "5");
    assert_eq!(texts[3].0, "2");
    let notes = sheet.notes.join("\n").replace(&root.path().display().to_string(), "runs");
    for note in [
        "“paper”: a paper.",
        "1 of 5 runs are missing yet: `convmae run 'a b.yaml'`.",
        "`runs/2` is failed: `convmae run 'a b.yaml' --resume`.",
        "`runs/3` has no `metrics.top1`.",
    ] {
        assert!(notes.contains(note), "{notes}");
    }
    assert_eq!(sheet.sources.len(), 3);
}

#[test]
fn the_best_of_a_column_may_be_the_papers() {
    let spec: TableSpec = serde_json::from_value(json!({
        "title": "t",
        "columns": [{ "name": "loss", "from": "metrics.loss", "best": "min" }],
        "rows": [
            { "label": "a", "quoted": { "loss": 2.0, "source": "s" } },
            { "label": "b", "quoted": { "loss": 1.0, "source": "s" } },
            { "label": "c", "quoted": { "loss": 0.5, "source": "s" }, "unavailable": "not written" },
        ],
    }))
    .unwrap();
    let plans = [RowPlan::default(), RowPlan::default(), RowPlan::default()];
    let sheet = fill(&spec, &plans, &Found::look(&plans).unwrap());
    let best: Vec<bool> = sheet.rows.iter().map(|row| row[0].best).collect();
    assert_eq!(best, [false, false, true]);
    assert!(sheet.render(Format::Markdown, false).contains("| – (**paper 0.5**)[^"));
    assert_eq!(sheet.rows[2][0].text(&sheet.columns[0]), ("–".to_owned(), Some("paper 0.5".to_owned())));
}

/// The table of one row that shows the loss of these directories, as Markdown.
fn mean(run: &serde_json::Value) -> String {
    let table = json!({
        "title": "t",
        "columns": [{ "name": "loss", "from": "metrics.loss" }],
        "rows": [{ "label": "a", "run": run }],
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("table.yaml"), table.to_string()).unwrap();
    let table = Table::load(&folder.path().join("table.yaml"), Path::new("runs")).unwrap();
    table.sheet().unwrap().render(Format::Markdown, false)
}

/// A run with a loss of 1 and this recipe.
fn run_of(root: &Path, name: &str, recipe: &str) -> String {
    let directory = root.join(name);
    drop(RunDir::create(&directory, recipe).unwrap());
    fs::write(directory.join("summary.json"), r#"{"status": "finished", "val.loss": 1.0}"#).unwrap();
    directory.display().to_string()
}

#[test]
fn runs_of_different_recipes_have_no_mean() {
    let root = tempfile::tempdir().unwrap();
    let run = |name: &str, recipe: &str| run_of(root.path(), name, recipe);
    let a = run("a", "name: a\nseed: 0\nlr: 1\ndata: { workers: 1 }\n");
    let b = run("b", "name: b\nseed: 1\nlr: 1\ndescription: words\ndata: { workers: 3 }\n");
    let c = run("c", "name: c\nseed: 1\nlr: 2\ndata: { workers: 1 }\n");
    let from = |name: &str, upstream: &str| run(name, &format!("init_from: {{ run: {upstream} }}\n"));
    let (on_a, on_b, on_c) = (from("on_a", &a), from("on_b", &b), from("on_c", &c));
    for runs in [json!([a, b]), json!([on_a, on_b])] {
        assert!(mean(&runs).contains("| 1 ± 0 (2) |"), "{}", mean(&runs));
    }
    let text = mean(&json!([a, c]));
    assert!(text.contains("| –[^1] |") && text.contains("`lr: 1 -> 2`. Narrow `run`."), "{text}");
    let text = mean(&json!([on_a, on_c]));
    assert!(text.contains("| –[^1] |"), "{text}");
    assert!(text.contains("`lr: 1 -> 2` in the runs that they start from."), "{text}");
}

#[test]
fn a_run_counts_once_however_it_is_written() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["p_0", "p_1"].map(|name| run_of(root.path(), name, "name: a\n"));
    let path = |text: &str| format!("{}/{text}", root.path().display());
    let text = mean(&json!([path("p_*"), paths[0], path("./p_1"), path("x/../p_1")]));
    assert!(text.contains("| 1 ± 0 (2) |"), "{text}");
    assert!(mean(&json!(path("./p_0"))).contains("| 1 |"));
    let text = mean(&json!([path("p_*"), path("q_*")]));
    assert!(text.contains("| 1 ± 0 (2)[^1] |") && text.contains("Nothing matches `"), "{text}");
}

#[test]
fn texts_of_runs_stay_in_their_cells_and_lines() {
    let mut sheet = sheet();
    sheet.rows[1][0] = text("a|b<script>`c`\\");
    sheet.notes[0] = "a ``b`c`` <b>".to_owned();
    sheet.sources[0].directory = "runs/x`y".to_owned();
    sheet.sources[0].label = "a\nb".to_owned();
    let markdown = sheet.render(Format::Markdown, true);
    for part in
        ["| a\\|b\\<script>\\`c\\`\\\\ |", "[^1]: a ``b`c`` \\<b>\n", "- a b, finetune: ``runs/x`y`` of"]
    {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let html = sheet.render(Format::Html, false);
    assert!(html.contains("<code>b`c</code> &lt;b&gt;") && html.contains("<code>runs/x`y</code>"), "{html}");
}

#[test]
fn differences_have_a_column_and_a_sign() {
    let root = tempfile::tempdir().unwrap();
    let run = |name: &str, top1: f64| {
        run(&root.path().join(name), &json!({ "status": "finished", "val.top1": top1 }));
        RowPlan { runs: vec![required(root.path().join(name))], last_stage: String::new() }
    };
    let missing = RowPlan { runs: vec![required(root.path().join("gone"))], last_stage: String::new() };
    let plans = [run("above", 80.75), run("below", 79.5), run("alone", 70.0), missing, RowPlan::default()];
    let spec: TableSpec = serde_json::from_value(json!({
        "title": "t",
        "columns": [
            { "name": "top-1", "from": "metrics.top1", "digits": 1 },
            { "name": "Δ", "from": "difference.top-1", "digits": 2 },
        ],
        "rows": [
            { "label": "above", "run": "x", "quoted": { "top-1": 80.0, "source": "s" } },
            { "label": "below", "run": "x", "quoted": { "top-1": 80.0, "source": "s" } },
            { "label": "alone", "run": "x" },
            { "label": "missing", "run": "x", "quoted": { "top-1": 80.0, "source": "s" } },
            { "label": "quoted", "quoted": { "top-1": 80.0, "source": "s" } },
        ],
    }))
    .unwrap();
    let sheet = fill(&spec, &plans, &Found::look(&plans).unwrap());
    let texts: Vec<_> = sheet.rows.iter().map(|row| row[1].text(&sheet.columns[1])).collect();
    assert_eq!(texts, ["+0.75", "−0.50", "", "–", ""].map(|text| (text.to_owned(), None)));
    // It is not said twice.
    assert_eq!(sheet.rows[0][0].text(&sheet.columns[0]), ("80.8".to_owned(), Some("paper 80.0".to_owned())));
    let csv = sheet.render(Format::Csv, false);
    assert!(
        csv.starts_with("top-1,top-1 std,top-1 n,top-1 paper,top-1 difference,Δ\n80.75,,1,80,0.75,0.75\n"),
        "{csv}"
    );
}

#[test]
fn rows_are_compared_with_the_baseline_seed_by_seed() {
    let root = tempfile::tempdir().unwrap();
    let row = |name: &str, runs: &[(u64, f64)]| {
        let runs = runs.iter().enumerate().map(|(at, (seed, top1))| {
            let directory = root.path().join(format!("{name}_{at}"));
            run(&directory, &json!({ "status": "finished", "seed": seed, "val.top1": top1 }));
            required(directory)
        });
        RowPlan { runs: runs.collect(), last_stage: String::new() }
    };
    let plans = [
        row("plain", &[(0, 30.0), (1, 32.0), (2, 34.0)]),
        row("better", &[(2, 35.0), (0, 31.0), (1, 33.0)]),
        row("partly", &[(1, 31.5), (9, 99.0)]),
        row("twice", &[(0, 31.0), (0, 32.0)]),
        row("elsewhere", &[(7, 31.0)]),
        RowPlan::default(),
    ];
    let label = |label: &str| json!({ "label": label, "run": "x" });
    let spec: TableSpec = serde_json::from_value(json!({
        "title": "t",
        "baseline": "plain",
        "columns": [
            { "name": "top-1", "from": "metrics.top1", "digits": 1 },
            { "name": "Gain", "from": "paired.top-1", "digits": 1, "best": "max" },
        ],
        "rows": [
            label("plain"), label("better"), label("partly"), label("twice"), label("elsewhere"),
            { "label": "quoted", "quoted": { "top-1": 80.0, "source": "s" } },
        ],
    }))
    .unwrap();
    let sheet = fill(&spec, &plans, &Found::look(&plans).unwrap());
    let texts: Vec<String> = sheet.rows.iter().map(|row| row[1].text(&sheet.columns[1]).0).collect();
    // The means lie two points apart within a row and one point between rows: within seeds that is sure.
    assert_eq!(texts, ["", "+1.0 [+1.0, +1.0] (3)", "−0.5 (1)", "–", "–", ""]);
    let noted: Vec<usize> = sheet.rows.iter().map(|row| row[1].notes.len()).collect();
    assert_eq!(noted, [0, 0, 0, 1, 0, 0]);
    assert!(sheet.notes.iter().any(|note| note.contains("several runs of a row have one seed")));
    assert!(sheet.rows[1][1].best && !sheet.rows[2][1].best);
    let csv = sheet.render(Format::Csv, false);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "top-1,top-1 std,top-1 n,top-1 paper,top-1 difference,Gain,Gain low,Gain high,Gain n"
    );
    assert_eq!(lines[2], "33,2,3,,,1,1,1,3");
    assert_eq!(lines[3].rsplit(',').take(4).collect::<Vec<_>>(), ["1", "", "", "-0.5"]);
}

#[test]
fn a_baseline_is_the_label_of_one_row() {
    let refused = |baseline: &str, labels: [&str; 2]| {
        let rows = labels.map(|label| format!("- {{ label: {label}, run: x }}\n")).concat();
        let columns = "- { name: top-1, from: metrics.top1 }\n- { name: x, from: paired.top-1 }";
        let diagnostics =
            load(&format!("title: t\n{baseline}columns:\n{columns}\nrows:\n{rows}")).unwrap_err();
        let finding = &diagnostics.findings()[0];
        format!("{finding} {}", finding.help.clone().unwrap_or_default())
    };
    let text = refused("", ["a", "b"]);
    assert!(text.contains("columns.1.from: the table does not say what it compares with"), "{text}");
    let text = refused("baseline: basline\n", ["baseline", "b"]);
    assert!(text.contains("no row has the label `basline` did you mean `baseline`?"), "{text}");
    let text = refused("baseline: a\n", ["a", "a"]);
    assert!(text.contains("several rows have the label `a` name one row"), "{text}");
}

#[test]
fn columns_of_differences_that_differ_from_nothing_are_refused() {
    let refused = |column: &str| {
        let columns = format!("- {{ name: top-1, from: metrics.top1 }}\n- {column}");
        let diagnostics = load(&format!("title: t\ncolumns:\n{columns}\nrows: []\n")).unwrap_err();
        let finding = &diagnostics.findings()[0];
        format!("{finding} {}", finding.help.clone().unwrap_or_default())
    };
    let text = refused("{ name: x, from: difference.top1 }");
    assert!(text.contains("no column `top1` with figures did you mean `difference.top-1`?"), "{text}");
    let text = refused("{ name: x, from: difference.top-1, stage: finetune }");
    assert!(
        text.contains("columns.1.stage: `finetune`, but it is about the stage of `top-1` remove `stage`"),
        "{text}"
    );
    let text = refused("{ name: x, from: difference.x }");
    assert!(text.contains("no column `x` with figures"), "{text}");
}

#[test]
fn a_row_costs_the_hours_of_all_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "name: a\n").unwrap();
    let recipe = read(&Sources { recipe: file, ..Sources::default() }, &catalog()).unwrap();
    let known = |seconds: Option<f64>| Known {
        file: "a.yaml".into(),
        recipe: recipe.clone(),
        digest: recipe.digest(),
        parameters: 1,
        gmacs: 1.0,
        seconds,
        any_seed: false,
    };
    let run = |stage: &str, seconds: Option<f64>| RequiredRun {
        stage: stage.to_owned(),
        known: Some(known(seconds)),
        ..required("runs/gone".into())
    };
    let plan = |runs: Vec<RequiredRun>| RowPlan { runs, last_stage: "finetune".to_owned() };
    let made = tempfile::tempdir().unwrap();
    drop(RunDir::create(made.path(), "name: a\n").unwrap());
    fs::write(
        made.path().join("summary.json"),
        json!({ "status": "finished", "seconds": 3600.0, "recipe_digest": recipe.digest() }).to_string(),
    )
    .unwrap();
    let made = RequiredRun { directory: made.path().to_owned(), ..run("finetune", None) };
    let plans = [
        plan(vec![
            run("pretrain", Some(7200.0)),
            run("finetune", Some(1800.0)),
            run("finetune", Some(1800.0)),
        ]),
        plan(vec![run("pretrain", None), run("finetune", Some(1800.0))]),
        plan(vec![required("runs/gone".into())]),
        RowPlan::default(),
        plan(vec![run("pretrain", Some(1800.0)), made]),
    ];
    let spec: TableSpec = serde_json::from_value(json!({
        "title": "t",
        "columns": [
            { "name": "Hours", "from": "hours", "digits": 1 },
            { "name": "Minutes", "from": "hours", "scale": 60.0, "stage": "finetune", "digits": 0 },
        ],
        "rows": [
            { "label": "a", "recipe": "a.yaml" },
            { "label": "b", "recipe": "a.yaml" },
            { "label": "c", "run": "runs/gone" },
            { "label": "d", "unavailable": "x" },
            { "label": "e", "recipe": "a.yaml" },
        ],
    }))
    .unwrap();
    let sheet = fill(&spec, &plans, &Found::look(&plans).unwrap());
    let texts: Vec<Vec<String>> = sheet
        .rows
        .iter()
        .map(|row| row.iter().zip(&sheet.columns).map(|(cell, column)| cell.text(column).0).collect())
        .collect();
    assert_eq!(texts, [["3.0", "60"], ["–", "30"], ["", ""], ["", ""], ["1.5", "60"]]);
    let noted: Vec<bool> = sheet.rows.iter().map(|row| !row[0].notes.is_empty()).collect();
    assert_eq!((&noted[..3], noted[4]), (&[false, true, false][..], true));
    assert!(sheet.notes.iter().any(|note| note.starts_with("As long as the runs took")));
    assert!(sheet.notes.iter().any(|note| note.starts_with("Not known on this machine: `convmae check")));
}
