#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::component::{ClassFigures, Confusion, ParameterGroup, Picture};
use crate::loader::CorruptSample;
use crate::report::{
    BestMetric, ClassTable, ConfusionTable, Details, Environment, GraphNode, MetricLog, PictureSet,
    PictureStore, RunDir, Split, Summary,
};

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
        details(&format!("no more disk for {name}")).write(&dir.details()).unwrap();
        let picture =
            |caption: &str, seed: u8| Picture::new(caption, RgbImage::from_pixel(8, 8, Rgb([seed; 3])));
        let row =
            |seed, by| vec![picture("original", seed), picture(&format!("evidence for {name}"), by * seed)];
        let store = PictureStore::new(dir.pictures());
        for (step, by) in [(20, 7), (40, 9)] {
            store.save(&PictureSet { step, rows: vec![row(1, by), row(2, by)] }).unwrap();
        }
        dir
    }

    fn read(&self) -> Report {
        Report::read(&[self.0.path().to_path_buf()]).unwrap()
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

fn details(error: &str) -> Details {
    let node = |name: &str, from: &str, parameters| GraphNode {
        name: name.to_owned(),
        type_name: "ConvViT".to_owned(),
        from: vec![from.to_owned()],
        outputs: vec!["s1 [49, 256]".to_owned(), "s2 [49, 768]".to_owned()],
        parameters,
        gmacs: 11.2,
    };
    let group = |name: &str, lr_scale| ParameterGroup {
        name: name.to_owned(),
        tensors: 96,
        parameters: 30_100_000,
        lr_scale,
        weight_decay: 0.05,
    };
    Details {
        nodes: vec![node("backbone", "images", 88_594_176), node("decoder", "backbone.s1", 26_800_640)],
        parameter_groups: vec![group("decay", 1.0), group("frozen", 0.0)],
        pixel_classes: vec!["wall".to_owned(), "sky".to_owned()],
        best: Some(BestMetric { name: "top1".to_owned(), more_is_better: true }),
        defaults: vec!["optimizer.lr".to_owned()],
        corrupt_samples: vec![CorruptSample {
            index: 7,
            path: "train/n02105855_2933.JPEG".into(),
            reason: "premature end of JPEG data".to_owned(),
        }],
        error: Some(error.to_owned()),
    }
}

#[test]
fn the_page_of_one_run_has_a_table_of_classes_and_their_curves() {
    let runs = Runs::two();
    let dir = RunDir::inspect(&runs.path("a")).unwrap();
    let of = |class: &str, ap: f64| ClassFigures {
        class: class.to_owned(),
        figures: vec![("box_ap".to_owned(), ap)],
        curves: vec![("box_ap50".to_owned(), vec![100.0, 50.0, ap])],
    };
    let classes = vec![of("<cat>", 12.5), of("dog", 75.25)];
    ClassTable { step: 20, classes }.write(&dir.classes()).unwrap();
    write_page(&dir).unwrap();
    let page = fs::read_to_string(dir.report()).unwrap();
    for text in [
        "<section id=\"classes\">",
        "The evaluation of step 20.",
        "data-value=\"&lt;cat&gt;\">&lt;cat&gt;</th><td class=\"number\" data-value=\"12.5\">",
        "precision over recall of dog, in percent",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let both = runs.read().render();
    assert!(!both.contains("<section id=\"classes\">"), "of several runs there is none");
}

#[test]
fn the_page_of_one_run_has_its_curves_pictures_model_and_recipe() {
    let runs = Runs::two();
    let dir = RunDir::inspect(&runs.path("a")).unwrap();
    write_page(&dir).unwrap();
    let page = fs::read_to_string(dir.report()).unwrap();
    for id in ["curves", "pictures", "model", "parameters", "corrupt", "recipes", "environment", "files"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    assert!(page.contains("<h1>base</h1>") && page.contains("<p class=\"status finished\">finished</p>"));
    assert!(page.contains("no more disk for a"), "why it failed");
    // Loss, learning rate and top1.
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 3);
    assert!(page.contains("top1 over steps; last value 51 of validation"));
    // Of two images the original once, what the model says at both steps.
    assert_eq!(page.matches("<img").count(), 2 * (1 + 2));
    assert!(page.contains("alt=\"evidence for a of image 2, step 20\""));
    for text in [
        "115\u{202f}394\u{202f}816", // parameters of both nodes
        "s1 [49, 256]<br>s2 [49, 768]",
        "<td class=\"number\">frozen</td>",
        "premature end of JPEG data",
        "<span class=\"k\">optimizer</span>",
        "convmae run a.yaml",
        "href=\"./metrics.parquet\"",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("class=\"sortable summary-table\""), "a table of one row");
    // Elsewhere there are no files beside it.
    let elsewhere = Report::read(&[runs.path("a")]).unwrap().render();
    assert!(elsewhere.contains("<h1>base</h1>") && !elsewhere.contains("id=\"files\""));
}

#[test]
fn the_page_of_one_run_begins_with_what_it_is_and_what_decides() {
    let runs = Runs::new();
    let dir = runs.add("a", "name: base\ndescription: |\n  What masking\n  does.\n");
    let mut summary = Summary::read(&dir.summary()).unwrap();
    for (name, value) in [("seconds", 112.4), ("train.loss", 1.0), ("val.loss", 2.0)] {
        summary.set(name, value);
    }
    summary.write(&dir.summary()).unwrap();
    let page = Report::read(&[runs.path("a")]).unwrap().render();
    assert!(page.contains("</h1><p class=\"description\">What masking\ndoes.</p>"), "{page}");
    let titles: Vec<&str> =
        page.split("<dt>").skip(1).map(|rest| rest.split("</dt>").next().unwrap()).collect();
    let expected =
        ["best top1", "top1, validation", "loss, validation", "loss, training", "time", "parameters"];
    assert_eq!(titles, expected);
    assert!(page.contains("<dt>time</dt><dd>1:52</dd>"));
}

#[test]
fn the_page_of_one_run_has_the_confusion_of_its_classes() {
    let runs = Runs::two();
    let dir = RunDir::inspect(&runs.path("a")).unwrap();
    let mut confusion = Confusion::new(&["cat".to_owned(), "dog".to_owned()]);
    confusion.add(0, Some(1));
    ConfusionTable { step: 20, confusion }.write(&dir.confusion()).unwrap();
    let page = Report::read(&[runs.path("a")]).unwrap().render();
    assert!(page.contains("<section id=\"confusion\">") && page.contains("cat taken for dog: 1 of 1"));
    is_well_formed(&page);
    assert!(!runs.read().render().contains("id=\"confusion\""), "of several runs there is none");
}

#[test]
fn the_page_says_what_the_summary_will_say_and_is_written_before_it() {
    let runs = Runs::two();
    let dir = RunDir::inspect(&runs.path("a")).unwrap();
    let mut summary = Summary::default();
    summary.set("status", "interrupted");
    summary.set("epoch", f64::NAN);
    fs::write(dir.summary(), "damaged").unwrap();
    write_page_and_summary(&dir, &summary).unwrap();
    assert_eq!(Summary::read(&dir.summary()).unwrap(), summary);
    let page = fs::read_to_string(dir.report()).unwrap();
    assert!(page.contains("<p class=\"status interrupted\">") && page.contains("<dt>epoch</dt><dd>–</dd>"));
    // A page that cannot be written leaves the summary as it is.
    fs::remove_file(dir.report()).unwrap();
    fs::create_dir(dir.report()).unwrap();
    summary.set("status", "finished");
    assert!(write_page_and_summary(&dir, &summary).is_err());
    assert_ne!(Summary::read(&dir.summary()).unwrap(), summary);
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
    assert!(!page.contains("<strong>") && page.contains("best top1"), "of single runs none is better");
    assert!(page.find(">bb</th>") < page.find(">a</th>"), "the best first");
    // The machine is the same, the command is not.
    assert!(page.contains("The same in all runs") && page.contains("convmae run bb.yaml"));
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_but_itself() {
    let runs = Runs::two();
    for page in [runs.read().render(), Report::read(&[runs.path("a")]).unwrap().render()] {
        is_well_formed(&page);
    }
}

fn is_well_formed(page: &str) {
    for outside in
        ["http://", "https://", "url(", "@import", "<link", "<iframe", " src=\"/", "fetch(", "import("]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    for source in page.split(" src=\"").skip(1) {
        assert!(source.starts_with("data:image/"));
    }
    for image in page.split("<img ").skip(1) {
        let tag = image.split('>').next().unwrap();
        assert!(tag.contains(" alt=\"") && !tag.contains("alt=\"\""), "an image without a text");
    }
    for element in [
        "html", "head", "body", "main", "section", "table", "thead", "tbody", "tr", "td", "th", "figure",
        "svg", "script", "style", "details", "form", "ul", "li", "div",
    ] {
        let opened =
            page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        // The script writes elements of its own.
        let written = include_str!("report.js");
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
        let recipe =
            serde_json::json!({"name": format!("{EVIL}{name}"), "description": EVIL, EVIL: name}).to_string();
        let dir = runs.add(name, &recipe);
        let mut log = MetricLog::open(&dir.metrics()).unwrap();
        log.push(40, 4.0, Split::Val, EVIL, 1.0, 20.0);
        log.write(&dir.metrics()).unwrap();
        let mut summary = Summary::read(&dir.summary()).unwrap();
        summary.set(format!("val.{EVIL}"), 1.0);
        summary.set("status", EVIL);
        summary.write(&dir.summary()).unwrap();
        let mut details = details(EVIL);
        details.nodes[0].name = EVIL.to_owned();
        details.parameter_groups[0].name = EVIL.to_owned();
        details.pixel_classes[0] = EVIL.to_owned();
        details.corrupt_samples[0].path = EVIL.into();
        details.corrupt_samples[0].reason = EVIL.to_owned();
        details.best = Some(BestMetric { name: EVIL.to_owned(), more_is_better: true });
        let mut confusion = Confusion::new(&[EVIL.to_owned(), EVIL.to_owned()]);
        confusion.add(0, Some(1));
        ConfusionTable { step: 40, confusion }.write(&dir.confusion()).unwrap();
        let picture = Picture { note: EVIL.to_owned(), ..Picture::new(EVIL, RgbImage::new(2, 2)) };
        PictureStore::new(dir.pictures()).save(&PictureSet { step: 50, rows: vec![vec![picture]] }).unwrap();
        details.write(&dir.details()).unwrap();
    }
    fs::create_dir(runs.path("gone")).unwrap();
    let one = Report::read(&[runs.path("b")]).unwrap();
    for report in [runs.read().with_title(Some(EVIL.to_owned())), one] {
        let page = report.render();
        assert!(!page.contains("<script>alert") && !page.contains("<\u{2215}script>"));
        // The data and the script.
        assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    }
}

#[test]
fn the_data_of_the_script_are_json() {
    let page = Runs::two().read().render();
    let start = page.find("type=\"application/json\">").unwrap() + "type=\"application/json\">".len();
    let text = &page[start..start + page[start..].find("</script>").unwrap()];
    let data: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(data["groupings"][0]["labels"][1], "bb");
    assert_eq!(data["groupings"][0]["of"], serde_json::json!([0, 1]));
    assert_eq!(data["paces"][0], 0.1);
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
    fs::write(blurred.details(), "[").unwrap();
    let report = Report::read(&[runs.0.path().to_path_buf(), runs.path("gone"), runs.path("a")]).unwrap();
    // `a` was given twice; what only illustrates does not take a run along.
    assert_eq!(report.len(), 3);
    let left_out: Vec<_> = report.left_out().iter().map(|left| left.path.clone()).collect();
    assert_eq!(left_out, [runs.path("gone"), runs.path("broken")]);
    let page = report.render();
    assert!(page.contains("is not a valid metrics file") && page.contains("there is no run in"));
}

#[test]
fn nothing_but_damage_is_an_error() {
    let runs = Runs::new();
    let broken = runs.add("broken", "name: broken");
    fs::write(broken.metrics(), "not parquet").unwrap();
    let message = Report::read(&[runs.path("broken")]).unwrap_err().to_string();
    assert!(message.contains("metrics.parquet"), "{message}");
}

#[test]
fn a_run_that_has_just_begun_is_compared_too() {
    let runs = Runs::two();
    RunDir::create(&runs.path("new"), "name: new").unwrap();
    let page = runs.read().render();
    assert!(page.contains("<span class=\"status started\">started</span>"));
    let alone = Report::read(&[runs.path("new")]).unwrap().render();
    assert!(
        alone.contains("<h1>new</h1>")
            && !alone.contains("id=\"curves\"")
            && alone.contains("id=\"recipes\"")
    );
}

/// Two variants of two seeds, the second one far better.
fn seeds() -> Runs {
    let runs = Runs::new();
    for (name, ratio, seed) in
        [("a", 0.5, 0), ("bb", 0.5, 1), ("b_far_better", 0.75, 0), ("b_far_better_", 0.75, 1)]
    {
        runs.add(name, &format!("name: base\nseed: {seed}\nmodel: {{mask: {{ratio: {ratio}}}}}\n"));
    }
    runs
}

#[test]
fn seeds_are_put_together_ranked_and_shown_over_their_key() {
    let page = seeds().read().render();
    for id in ["ranking", "keys", "summary", "curves"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    assert!(page.contains("<strong>62.50 ± 0.71</strong>") && page.contains("51.50 ± 0.71"), "{page}");
    assert!(page.contains("top1 over ratio"));
    let start = page.find("<ul class=\"legend\"").unwrap();
    let legend = &page[start..start + page[start..].find("</ul>").unwrap()];
    assert_eq!(legend.matches("<li ").count(), 2, "{legend}");
    assert!(legend.contains("ratio 0.5") && legend.contains("ratio 0.75"));
    assert!(page.contains("<polygon"), "a band around each mean");
    assert!(page.contains("<select name=\"group\">") && page.contains(">run</option>"));
    is_well_formed(&page);
}

#[test]
fn every_chart_is_written_as_svg_and_pdf() {
    let runs = seeds();
    let folder = runs.path("figures");
    assert_eq!(runs.read().write_figures(&folder).unwrap(), 4);
    for name in ["validation_top1", "training_loss", "training_lr", "top1_over_ratio"] {
        let svg = fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("ratio"), "{name}: a legend, or the axis");
        let pdf = fs::read(folder.join(format!("{name}.pdf"))).unwrap();
        assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 1000, "{name}");
    }
    let svg = fs::read_to_string(folder.join("training_loss.svg")).unwrap();
    assert!(svg.contains("loss, training") && svg.contains("step") && svg.contains("ratio 0.75"), "{svg}");
}

#[test]
fn recipes_are_compared_key_by_key() {
    let page = Runs::two().read().render();
    let start = page.find("<table class=\"diff\">").unwrap();
    let table = &page[start..start + page[start..].find("</table>").unwrap()];
    insta::assert_snapshot!(table.replace("<tr>", "\n<tr>").replace("<wbr>", ""));
}
