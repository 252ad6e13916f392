#![allow(clippy::unwrap_used)]

use image::{Rgb, RgbImage};

use super::*;
use crate::component::Picture;
use crate::report::Split;

/// A run of a small model, with values that look like those of a real one.
struct Run {
    summary: Summary,
    metrics: MetricLog,
    pictures: Vec<PictureSet>,
    graph: Vec<GraphNode>,
    groups: Vec<ParameterGroup>,
    environment: Environment,
    recipe: &'static str,
    corrupt: Vec<CorruptSample>,
    links: Vec<Link>,
}

const RECIPE: &str = include_str!("../../../../tests/data/report/recipe.yaml");

impl Run {
    fn sample() -> Self {
        let mut summary = Summary::default();
        for (name, value) in
            [("val_loss", 0.412_31), ("best_val_loss", 0.409_8), ("images_per_second", 163.4)]
        {
            summary.set(name, value);
        }
        summary.set("steps", 2_000_u64);
        summary.set("parameters", 30_194_512_u64);
        summary.set("duration", "1:52:07");
        Self {
            summary,
            metrics: metrics(),
            pictures: [1, 200, 600, 1200, 2000].into_iter().map(pictures).collect(),
            graph: graph(),
            groups: vec![
                group("decay", 96, 30_100_000, 1.0, 0.05),
                group("no_decay", 148, 94_512, 1.0, 0.0),
                group("frozen", 1, 150_528, 0.0, 0.0),
            ],
            environment: Environment::collect("cpu", 2),
            recipe: RECIPE,
            corrupt: vec![CorruptSample {
                name: "train/n02105855/n02105855_2933.JPEG".to_owned(),
                reason: "premature end of JPEG data".to_owned(),
            }],
            links: ["recipe.lock.yaml", "metrics.parquet", "log.jsonl"]
                .map(|path| Link { path: path.to_owned(), text: "of this run".to_owned() })
                .to_vec(),
        }
    }

    fn render(&self, name: &str, status: &Status) -> String {
        let report = Report {
            name,
            status,
            summary: &self.summary,
            metrics: &self.metrics,
            pictures: &self.pictures,
            graph: &self.graph,
            parameter_groups: &self.groups,
            environment: &self.environment,
            recipe: self.recipe,
            corrupt_samples: &self.corrupt,
            links: &self.links,
        };
        report.render()
    }
}

fn metrics() -> MetricLog {
    let mut log = MetricLog::default();
    let mut noise = 7_u64;
    for step in 1..=2000_u64 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let jitter = (noise >> 40) as f64 / (1_u64 << 24) as f64 - 0.5;
        let (progress, epoch) = (step as f64 / 2000.0, step as f64 / 100.0);
        let loss = 0.41 + 0.6 * (-(step as f64) / 180.0).exp() + 0.05 * jitter;
        let warmup = (progress / 0.1).min(1.0);
        let lr = 1.5e-4 * warmup * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
        for (name, value) in [("loss", loss), ("lr", lr), ("images_per_second", 160.0 + 8.0 * jitter)] {
            log.push(step, epoch, Split::Train, name, value, step as f64);
        }
        if step % 200 == 0 {
            log.push(step, epoch, Split::Val, "loss", loss - 0.05 * jitter + 0.01, step as f64);
        }
    }
    log
}

fn pictures(step: u64) -> PictureSet {
    let sharpness = step as f64 / 2000.0;
    let original = |seed: u32, x: u32, y: u32| {
        let wave =
            |frequency: f64, at: u32| ((f64::from(at) * frequency + f64::from(seed)).sin() + 1.0) * 110.0;
        Rgb([wave(0.21, x) as u8, wave(0.17, y) as u8, wave(0.13, x + y) as u8])
    };
    let is_masked = |seed: u32, x: u32, y: u32| !(x / 8 * 7 + y / 8 * 3 + seed).is_multiple_of(4);
    let row = |seed: u32| {
        let masked = RgbImage::from_fn(64, 64, |x, y| {
            if is_masked(seed, x, y) { Rgb([128; 3]) } else { original(seed, x, y) }
        });
        let reconstruction = RgbImage::from_fn(64, 64, |x, y| {
            let Rgb(pixel) = original(seed, x, y);
            Rgb(pixel.map(|value| (128.0 + sharpness * (f64::from(value) - 128.0)) as u8))
        });
        let whole = RgbImage::from_fn(64, 64, |x, y| original(seed, x, y));
        [("masked", masked), ("reconstruction", reconstruction), ("original", whole)]
            .map(|(caption, image)| Picture { caption: caption.to_owned(), image })
            .to_vec()
    };
    PictureSet { step, rows: (0..4).map(row).collect() }
}

fn graph() -> Vec<GraphNode> {
    let node = |name: &str, kind: &str, inputs: &[&str], outputs: &[&str], parameters, gmacs| GraphNode {
        name: name.to_owned(),
        kind: kind.to_owned(),
        inputs: inputs.iter().map(ToString::to_string).collect(),
        outputs: outputs.iter().map(ToString::to_string).collect(),
        parameters,
        gmacs,
    };
    vec![
        node("masker", "RandomMasker", &["images"], &["mask [196]"], 0, 0.0),
        node(
            "backbone",
            "ConvViT",
            &["images", "masker"],
            &["s1 [49, 16, 256]", "s2 [49, 4, 384]", "s3 [49, 768]"],
            88_594_176,
            11.2,
        ),
        node(
            "decoder",
            "MaeDecoder",
            &["backbone.s1", "backbone.s2", "backbone.s3"],
            &["loss []"],
            26_800_640,
            5.31,
        ),
    ]
}

fn group(name: &str, tensors: usize, parameters: u64, lr_scale: f64, weight_decay: f64) -> ParameterGroup {
    ParameterGroup { name: name.to_owned(), tensors, parameters, lr_scale, weight_decay }
}

#[test]
fn the_page_has_its_curves_pictures_and_sections() {
    let page = Run::sample().render("convmae-base-pretrain", &Status::Finished);
    for id in ["curves", "pictures", "model", "parameters", "corrupt", "recipe", "environment", "files"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    assert_eq!(page.matches("<svg class=\"plot\"").count(), 3);
    // Four images: masked and original once, the reconstruction at five steps.
    assert_eq!(page.matches("<img").count(), 4 * 7);
    assert_eq!(page.matches("<h1>").count(), 1);
    assert!(page.contains("88\u{202f}594\u{202f}176"));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = Run::sample().render("base", &Status::Running);
    for outside in ["http://", "https://", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for source in page.split(" src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"));
    }
    for image in page.split("<img ").skip(1) {
        let tag = image.split('>').next().unwrap();
        assert!(tag.contains(" alt=\"") && !tag.contains("alt=\"\""), "an image without a text");
    }
}

#[test]
fn text_of_the_user_stays_text() {
    let evil = "</title><script>alert(1)</script>\"'&";
    let mut run = Run::sample();
    run.recipe = "name: </code></pre><script>alert(1)</script>";
    run.summary.set(evil, evil);
    run.metrics.push(1, 0.1, Split::Val, evil, 1.0, 1.0);
    run.corrupt.push(CorruptSample { name: evil.to_owned(), reason: evil.to_owned() });
    run.graph[0].name = evil.to_owned();
    run.groups[0].name = evil.to_owned();
    run.pictures[0].rows[0][0].caption = evil.to_owned();
    run.links.push(Link { path: "javascript:alert(1)".to_owned(), text: evil.to_owned() });
    let page = run.render(evil, &Status::Failed(evil.to_owned()));
    assert!(!page.contains("<script") && !page.contains("</title><script"));
    assert!(page.contains("&lt;script&gt;"));
    assert!(!page.contains("href=\"javascript:"));
}

#[test]
fn a_run_that_has_just_begun_has_a_page_too() {
    let run = Run {
        summary: Summary::default(),
        metrics: MetricLog::default(),
        pictures: Vec::new(),
        graph: Vec::new(),
        groups: Vec::new(),
        corrupt: Vec::new(),
        links: Vec::new(),
        ..Run::sample()
    };
    let page = run.render("base", &Status::Running);
    assert!(page.contains("running") && !page.contains("id=\"curves\""));
}
