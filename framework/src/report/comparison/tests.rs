#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::component::Picture;
use crate::report::{Environment, MetricLog, PictureSet, PictureStore, RunDir, Split, Summary};

const EVIL: &str = "</script><script>alert(1)</script>\"'&";

/// Run directories of a tiny history.
struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn add(&self, name: &str, recipe: &str) -> RunDir {
        let dir = RunDir::create(&self.path(name), recipe).unwrap();
        let (mut log, mut summary) = (MetricLog::default(), Summary::default());
        let offset = name.len() as f64;
        for step in 1..=40_u64 {
            let seconds = step as f64 * 0.5;
            log.push(step, step as f64 / 10.0, Split::Train, "loss", offset + 1.0 / step as f64, seconds);
            log.push(step, step as f64 / 10.0, Split::Train, "lr", 1e-3, seconds);
        }
        log.push(40, 4.0, Split::Val, "top1", 50.0 + offset, 20.0);
        log.write(&dir.metrics()).unwrap();
        summary.set("status", "finished");
        summary.set("val.top1", 50.0 + offset);
        summary.set("best", 50.0 + offset);
        summary.set("parameters", 1_000_u64);
        summary.write(&dir.summary()).unwrap();
        let mut environment = Environment::collect("cpu", 2);
        environment.command = format!("convmae run {name}.yaml");
        environment.write(&dir.environment()).unwrap();
        let picture = |caption: &str, seed: u8| Picture {
            caption: caption.to_owned(),
            image: RgbImage::from_pixel(8, 8, Rgb([seed; 3])),
        };
        let row = |seed| vec![picture("original", seed), picture(&format!("evidence for {name}"), 9 * seed)];
        PictureStore::new(dir.pictures()).save(&PictureSet { step: 40, rows: vec![row(1), row(2)] }).unwrap();
        dir
    }

    fn read(&self) -> Comparison {
        Comparison::read(&[self.0.path().to_path_buf()]).unwrap()
    }

    fn two() -> Self {
        let runs = Self::new();
        runs.add("a", "name: base\nmodel: {depth: [1, 2], mask: {ratio: 0.75}}\noptimizer: {lr: 1.0e-3}\n");
        runs.add(
            "bb",
            "name: base\nmodel: {depth: [1, 3], mask: null}\noptimizer: {lr: 1.0e-3}\nema: {decay: 0.9}\n",
        );
        runs
    }
}

#[test]
fn the_page_has_every_section_and_every_run_in_each() {
    let page = Runs::two().read().render();
    for id in ["summary", "curves", "recipes", "pictures", "environment"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    // Two training curves and one of validation, with a line of each run.
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 3);
    assert!(page.contains("training loss of 2 runs; last values from 1.025 of a to 2.025 of bb"), "{page}");
    // The originals are the same ones and shown once.
    assert_eq!(page.matches("<img").count(), 2 + 2 * 2);
    assert!(page.contains("<strong>52</strong>") && page.contains("best top1"));
    // The machine is the same, the command is not.
    assert!(page.contains("The same in all runs") && page.contains("convmae run bb.yaml"));
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_but_itself() {
    let page = Runs::two().read().render();
    for outside in
        ["http://", "https://", "url(", "@import", "<link", "<iframe", " src=\"/", "fetch(", "import("]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    for source in page.split(" src=\"").skip(1) {
        assert!(source.starts_with("data:image/"));
    }
    for element in [
        "html", "head", "body", "main", "section", "table", "thead", "tbody", "tr", "td", "th", "figure",
        "svg", "script", "style", "details", "form", "ul", "li", "div",
    ] {
        let opened =
            page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        // The script writes elements of its own.
        let written = include_str!("comparison.js");
        let own = written.matches(&format!("<{element} ")).count()
            + written.matches(&format!("<{element}>")).count();
        let closed = page.matches(&format!("</{element}>")).count()
            - written.matches(&format!("</{element}>")).count();
        assert_eq!(opened - own, closed, "{element}");
    }
}

#[test]
fn text_of_the_user_stays_text() {
    let runs = Runs::new();
    let name = EVIL.replace('/', "∕");
    for name in [&name, "b"] {
        let recipe = serde_json::json!({"name": format!("{EVIL}{name}"), EVIL: name}).to_string();
        let dir = runs.add(name, &recipe);
        let mut log = MetricLog::open(&dir.metrics()).unwrap();
        log.push(40, 4.0, Split::Val, EVIL, 1.0, 20.0);
        log.write(&dir.metrics()).unwrap();
        let mut summary = Summary::read(&dir.summary()).unwrap();
        summary.set(format!("val.{EVIL}"), 1.0);
        summary.set("status", EVIL);
        summary.write(&dir.summary()).unwrap();
    }
    fs::create_dir(runs.path("gone")).unwrap();
    let page = runs.read().with_title(Some(EVIL.to_owned())).render();
    assert!(!page.contains("<script>alert") && !page.contains("<\u{2215}script>"));
    // The data and the script.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
}

#[test]
fn the_data_of_the_script_are_json() {
    let page = Runs::two().read().render();
    let start = page.find("type=\"application/json\">").unwrap() + "type=\"application/json\">".len();
    let text = &page[start..start + page[start..].find("</script>").unwrap()];
    let data: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(data["runs"][1]["label"], "bb");
    assert_eq!(data["runs"][0]["epochs_per_step"], 0.1);
    // `loss` and `lr` of a run share an axis.
    assert_eq!(data["axes"].as_array().unwrap().len(), 4);
    assert_eq!(data["axes"][2]["seconds"][39], 20.0);
}

#[test]
fn what_is_damaged_is_named_and_left_out() {
    let runs = Runs::two();
    let broken = runs.add("broken", "name: broken");
    fs::write(broken.metrics(), "not parquet").unwrap();
    let blurred = runs.add("blurred", "name: blurred");
    fs::write(blurred.pictures().join("step-00000099.png"), "not a picture").unwrap();
    fs::write(blurred.environment(), "{").unwrap();
    let comparison =
        Comparison::read(&[runs.0.path().to_path_buf(), runs.path("gone"), runs.path("a")]).unwrap();
    // `a` was given twice; what only illustrates does not take a run along.
    assert_eq!(comparison.len(), 3);
    let left_out: Vec<_> = comparison.left_out().iter().map(|left| left.path.clone()).collect();
    assert_eq!(left_out, [runs.path("gone"), runs.path("broken")]);
    let page = comparison.render();
    assert!(page.contains("is not a valid metrics file") && page.contains("there is no run in"));
}

#[test]
fn nothing_but_damage_is_an_error() {
    let runs = Runs::new();
    let broken = runs.add("broken", "name: broken");
    fs::write(broken.metrics(), "not parquet").unwrap();
    let message = Comparison::read(&[runs.path("broken")]).unwrap_err().to_string();
    assert!(message.contains("metrics.parquet"), "{message}");
}

#[test]
fn a_run_that_has_just_begun_is_compared_too() {
    let runs = Runs::two();
    RunDir::create(&runs.path("new"), "name: new").unwrap();
    let page = runs.read().render();
    assert!(page.contains("<span class=\"status started\">started</span>"));
    let alone = Comparison::read(&[runs.path("new")]).unwrap().render();
    assert!(
        alone.contains("One run") && !alone.contains("id=\"curves\"") && !alone.contains("id=\"recipes\"")
    );
}

#[test]
fn recipes_are_compared_key_by_key() {
    let page = Runs::two().read().render();
    let start = page.find("<table class=\"diff\">").unwrap();
    let table = &page[start..start + page[start..].find("</table>").unwrap()];
    insta::assert_snapshot!(table.replace("<tr>", "\n<tr>").replace("<wbr>", ""));
}
