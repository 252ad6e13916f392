//! `convmae report`: runs compared on one page. `tests/browser/report.mjs` opens such a page in a browser.

use std::f64::consts::PI;
use std::fs;
use std::path::{Path, PathBuf};

use convmae_framework::component::Picture;
use convmae_framework::report::{
    Environment, MetricLog, PictureSet, PictureStore, Report, RunDir, Split, Summary,
};
use image::{Rgb, RgbImage};

use crate::support::{Folder, stderr};

const STEPS: u64 = 4000;

#[test]
fn runs_of_a_recipe_are_compared_and_a_stranger_is_left_out() {
    let folder = Folder::new();
    for seed in ["0", "1"] {
        let set = format!("seed={seed}");
        let out = format!("runs/seed_{seed}");
        folder.succeeds([
            "run",
            "tiny.yaml",
            "--set",
            &set,
            "--set",
            "train.length=2 iterations",
            "--out",
            &out,
        ]);
    }
    let assert = folder.succeeds(["report", "runs", "tiny.yaml", "--name", "Two seeds"]);
    let message = stderr(&assert);
    assert!(
        message.contains("there is no run in tiny.yaml") && message.ends_with("2 runs: comparison.html\n"),
        "{message}"
    );
    let page = fs::read_to_string(folder.path("comparison.html")).unwrap();
    for text in [
        "<h1>Two seeds</h1>",
        "seed_0",
        "seed_1",
        "The same in all runs",
        "data:image/png;base64,",
        "left-out",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Of the recipes, only the seed differs; of the pictures, the originals are shown once.
    assert_eq!(page.matches("<th class=\"path\" scope=\"row\">seed").count(), 1);
    assert_eq!(page.matches("alt=\"original of image").count(), 2);
}

#[test]
fn figures_and_runs_for_mlflow_are_written_beside_the_page() {
    let folder = Folder::new();
    for run in 0..3 {
        record(&folder.path("runs").join(format!("ablation_{run}")), run);
    }
    let args = ["report", "runs", "--figures", "figures", "--mlflow", "mlruns"];
    let message = stderr(&folder.succeeds(args));
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines, ["3 runs: comparison.html", "8 figures: figures", "3 runs for MLflow: mlruns"]);
    for figure in ["training_loss", "validation_top1", "top1_over_mask_ratio"] {
        for ending in ["svg", "pdf"] {
            assert!(folder.path("figures").join(format!("{figure}.{ending}")).is_file(), "{figure}.{ending}");
        }
    }
    let experiments: Vec<_> = fs::read_dir(folder.path("mlruns")).unwrap().collect();
    assert_eq!(experiments.len(), 1, "one name, one experiment");
}

#[test]
fn a_path_without_runs_is_a_mistake() {
    let folder = Folder::new();
    folder.fails(["report", "."], 2, &["there is no run in .: neither it nor a directory below it has"]);
    assert!(!folder.path("comparison.html").exists());
}

#[test]
fn event_files_hold_every_metric_and_a_resumed_run_begins_another() {
    let folder = Folder::new();
    let run = |length: &str| {
        let length = format!("train.length={length} iterations");
        let logging = "logging={tensorboard: true}";
        folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume", "--set", &length, "--set", logging]);
    };
    run("6");
    // A longer run goes on where it ended. The first line seals the others.
    let recipe = folder.path("run/recipe.lock.yaml");
    let lock = fs::read_to_string(&recipe).unwrap().replace("length: 6 iterations", "length: 8 iterations");
    fs::write(&recipe, lock.split_once('\n').unwrap().1).unwrap();
    run("8");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.path("run/tensorboard")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let holds = |file: &Path, text: &str| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    };
    let [first, second] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!((holds(first, "brain.Event:2"), holds(second, "brain.Event:2")), (1, 1));
    assert_eq!((holds(first, "train/loss"), holds(second, "train/loss")), (6, 2));
    assert_eq!((holds(first, "val/loss"), holds(second, "val/loss")), (1, 1));
    // Of two images at the start and at the end, and at the end again.
    assert_eq!((holds(first, "image 1/original"), holds(second, "image 2/original")), (2, 1));
    for text in ["    name: tiny\n", "_hparams_/session_start_info", "optimizer.lr"] {
        assert!(holds(first, text) > 0 && holds(second, text) > 0, "{text}");
    }
}

/// Leaves the page at `target/tmp/report_of_20_runs.html` for the browser.
#[test]
fn a_report_of_twenty_long_runs_stays_below_five_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..20 {
        record(&folder.path().join(format!("ablation_{run}")), run);
    }
    let page = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report_of_20_runs.html");
    Report::read(&[folder.path().to_path_buf()]).unwrap().write(&page).unwrap();
    let size = fs::metadata(&page).unwrap().len();
    assert!(size < 5_000_000, "{size} bytes");
}

fn record(root: &Path, run: u32) {
    let recipe =
        format!("name: ablation\nmodel: {{mask_ratio: {}}}\nseed: {run}\n", 0.5 + 0.1 * f64::from(run % 4));
    let dir = RunDir::create(root, &recipe).unwrap();
    metrics(run).write(&dir.metrics()).unwrap();
    let mut summary = Summary::default();
    summary.set("status", "finished");
    summary.set("val.top1", 60.0 + f64::from(run * 7 % 20));
    summary.set("parameters", 30_194_512_u64);
    summary.write(&dir.summary()).unwrap();
    Environment::collect("cpu", 2).write(&dir.environment()).unwrap();
    let rows = (0..4).map(|image| pictures(run, image)).collect();
    PictureStore::new(dir.pictures()).save(&PictureSet { step: STEPS, rows }).unwrap();
}

fn metrics(run: u32) -> MetricLog {
    let mut log = MetricLog::default();
    let mut noise = 0.5_f64;
    for step in 1..=STEPS {
        noise = (noise * 997.0 + f64::from(run) * 0.1).fract();
        let (progress, epoch, seconds) = (step as f64 / STEPS as f64, step as f64 / 100.0, step as f64 * 0.7);
        let loss = 0.4 + 0.02 * f64::from(run) + 0.6 * (-progress * 9.0).exp() + 0.1 * (noise - 0.5);
        for (name, value) in [
            ("loss", loss),
            ("decoder.loss", 0.8 * loss),
            ("grad_norm", 1.0 + 2.0 * noise),
            ("lr", 1.5e-4 * (1.0 + (PI * progress).cos())),
            ("images_per_second", 160.0 + 8.0 * noise),
        ] {
            log.push(step, epoch, Split::Train, name, value, seconds);
        }
        if step.is_multiple_of(100) {
            log.push(step, epoch, Split::Val, "loss", loss + 0.01, seconds);
            log.push(step, epoch, Split::Val, "top1", 60.0 * progress + f64::from(run), seconds);
        }
    }
    log
}

/// Images of the usual size with detail and noise.
fn pictures(run: u32, image: u32) -> Vec<Picture> {
    let pixel = |seed: u32, x: u32, y: u32| {
        let wave = |scale: u32| f64::from(x * scale + y * (7 - scale) + 40 * seed) * 0.02;
        let grain = (x * 7919 + y * 104_729 + seed * 31) % 23;
        Rgb([1, 3, 5].map(|scale| (wave(scale).sin() * 100.0 + 120.0) as u8 + grain as u8))
    };
    let picture = |caption: &str, seed: u32| {
        Picture::new(caption, RgbImage::from_fn(224, 224, |x, y| pixel(seed, x, y)))
    };
    vec![
        picture("masked", 100 * run + image),
        picture("reconstruction", run + image),
        picture("original", image),
    ]
}
