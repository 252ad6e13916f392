//! A run that is stopped, however that happens, ends with the bytes of one that never was.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use convmae_framework::report::{MetricLog, Point, Split, Summary};
use convmae_framework::weights::{TensorMap, read_safetensors};
use serde_json::Value;

use crate::support::{Folder, program, stderr};

const STEPS: u64 = 90;
/// Long enough to be stopped on the way, with everything on that has a state: accumulation, moving average,
/// stochastic depth.
const LONG: [&str; 8] = [
    "--set",
    "train.length=90 iterations",
    "--set",
    "checkpoint.every=5 iterations",
    "--set",
    "evaluate.every=30 iterations",
    "--set",
    "schedule.warmup=10 iterations",
];

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["run", "tiny.yaml", "--out", "run"].into_iter().chain(LONG).chain(more.iter().copied()).collect()
}

/// What a finished run leaves: the bytes of the weights, and the tensors of the last checkpoint.
#[derive(PartialEq)]
struct Final {
    weights: Vec<u8>,
    state: TensorMap,
}

impl Final {
    fn of(folder: &Folder) -> Self {
        let last = folder.path(&format!("run/checkpoints/step-{STEPS:08}.safetensors"));
        let state = read_safetensors(&last).unwrap().tensors;
        for prefix in ["model.", "optimizer.exp_avg.", "ema."] {
            assert!(state.names().any(|name| name.starts_with(prefix)), "{prefix}");
        }
        Self { weights: fs::read(folder.path("run/model.safetensors")).unwrap(), state }
    }
}

/// A run that was never stopped.
fn unbroken() -> &'static Final {
    static UNBROKEN: OnceLock<Final> = OnceLock::new();
    UNBROKEN.get_or_init(|| {
        let folder = Folder::new();
        folder.succeeds(args(&[]));
        Final::of(&folder)
    })
}

#[track_caller]
fn assert_as_unbroken(folder: &Folder) {
    assert!(&Final::of(folder) == unbroken(), "other bytes than those of the unbroken run");
}

fn start(folder: &Folder, more: &[&str]) -> Child {
    let mut command = folder.convmae(args(more));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Steps of the checkpoints of the run, sorted, with their files.
fn checkpoints(folder: &Folder) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder.path("run/checkpoints")) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let step =
                path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse();
            Some((step.ok()?, path))
        })
        .collect();
    found.sort();
    found
}

fn wait_until(child: &mut Child, what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {what}");
        assert!(start.elapsed() < Duration::from_mins(2), "no {what}");
        sleep(Duration::from_millis(1));
    }
}

fn wait_for_step(folder: &Folder, child: &mut Child, step: u64) {
    wait_until(child, &format!("step {step}"), || {
        checkpoints(folder).last().is_some_and(|(at, _)| *at >= step)
    });
}

fn send(signal: &str, child: &Child) {
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Exit code and messages.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut messages = String::new();
    child.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
    (child.wait().unwrap().code(), messages)
}

#[test]
fn the_number_of_workers_changes_no_bit() {
    let folder = Folder::new();
    folder.succeeds(args(&["--set", "data.workers=3", "--set", "data.prefetch=5"]));
    assert_as_unbroken(&folder);
}

#[test]
fn a_signal_stops_it_and_the_printed_command_continues_it() {
    for signal in ["INT", "TERM"] {
        let folder = Folder::new();
        let mut child = start(&folder, &[]);
        wait_for_step(&folder, &mut child, 10);
        send(signal, &child);
        let (code, messages) = end(child);
        assert_eq!(code, Some(0), "{messages}");
        let (before, command) = messages.split_once("the state is saved; continue with\n").unwrap();
        assert!(before.contains("stopped after step "), "{messages}");
        let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
        assert_eq!(summary.get("status").and_then(Value::as_str), Some("interrupted"));

        // As a shell would run it.
        let program = format!("{} \"$@\"", program().display());
        let script = format!("convmae() {{ {program}; }}; {}", command.trim());
        let output = Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder.root())
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap();
        let messages = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && messages.contains("resumed at step "), "{messages}");
        assert_as_unbroken(&folder);
    }
}

#[test]
fn killed_at_several_points_it_goes_on_each_time() {
    let folder = Folder::new();
    // Before the first checkpoint: from the start.
    let mut child = start(&folder, &[]);
    wait_until(&mut child, "the recipe", || folder.path("run/recipe.lock.yaml").is_file());
    child.kill().unwrap();
    child.wait().unwrap();
    // In the middle of an epoch, after an evaluation, with other numbers of workers.
    for (step, workers) in [(5, "data.workers=1"), (35, "data.workers=3"), (65, "data.workers=2")] {
        let mut child = start(&folder, &["--resume", "--set", workers]);
        wait_for_step(&folder, &mut child, step);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let assert = folder.succeeds(args(&["--resume"]));
    assert!(stderr(&assert).contains("resumed at step "), "{}", stderr(&assert));
    assert_as_unbroken(&folder);
    // Nothing is measured twice, nothing is missing.
    let metrics = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
    let steps =
        |split, name| -> Vec<_> { metrics.series(split, name).iter().map(|point| point.step).collect() };
    assert_eq!(steps(Split::Train, "loss"), (1..=STEPS).collect::<Vec<_>>());
    assert_eq!(steps(Split::Val, "loss"), [30, 60, 90]);
}

/// A finished run, without its weights, whose last checkpoint was damaged: it goes on from the one before.
fn damaged(damage: impl Fn(&Path)) {
    let folder = Folder::new();
    folder.succeeds(args(&[]));
    let (step, last) = checkpoints(&folder).pop().unwrap();
    assert_eq!(step, STEPS);
    damage(&last);
    fs::remove_file(folder.path("run/model.safetensors")).unwrap();
    let assert = folder.succeeds(args(&["--resume"]));
    let messages = stderr(&assert);
    let name = last.file_name().unwrap().to_str().unwrap();
    let line = messages.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{messages}"));
    assert!(line.contains("WARN") && line.contains("refused"), "{messages}");
    assert!(messages.contains("resumed at step 85 of 90"), "{messages}");
    assert_as_unbroken(&folder);
}

#[test]
fn a_truncated_checkpoint_is_named_and_the_one_before_is_used() {
    damaged(|path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn a_checkpoint_with_one_bit_flipped_is_named_and_the_one_before_is_used() {
    damaged(|path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn without_an_intact_checkpoint_it_fails_and_names_them_all() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    for (_, path) in checkpoints(&folder) {
        fs::write(path, "").unwrap();
    }
    let words = [
        "no intact checkpoint in run/checkpoints",
        "step-00000012.safetensors: ",
        "step-00000009.safetensors: ",
    ];
    folder.fails(["run", "tiny.yaml", "--out", "run", "--resume"], 1, &words);
}

/// The device that a program takes anyway.
const BUILT_FOR: &str = if cfg!(feature = "cuda") { "device=cuda:0" } else { "device=cpu" };

#[test]
fn a_changed_recipe_is_refused_with_its_changes() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    let changed = [
        "run",
        "tiny.yaml",
        "--out",
        "run",
        "--resume",
        "--set",
        "optimizer.lr=2e-3",
        "--set",
        "model.decoder.depth=2",
    ];
    let words = [
        "run was started with another recipe",
        "optimizer.lr: 0.001 -> 0.002",
        "model.decoder.depth: 1 -> 2",
        "undo these changes, or start a new run with `--out`",
    ];
    folder.fails(changed, 2, &words);
    // What changes no result may change.
    folder.succeeds([
        "run",
        "tiny.yaml",
        "--out",
        "run",
        "--resume",
        "--set",
        "data.workers=2",
        "--set",
        "description=x",
        "--set",
        BUILT_FOR,
    ]);
}

#[test]
fn a_finished_run_stays_as_it_is() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    let read = |name: &str| fs::read(folder.path("run").join(name)).unwrap();
    let files =
        ["model.safetensors", "metrics.parquet", "summary.json", "report.html", "checkpoints/last.json"];
    let before = files.map(read);
    let assert = folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume"]);
    assert!(stderr(&assert).contains("is finished"), "{}", stderr(&assert));
    for (name, (before, after)) in files.iter().zip(before.iter().zip(files.map(read))) {
        assert!(*before == after, "{name} changed");
    }
}

#[test]
fn a_run_directory_is_not_used_twice() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    folder.fails(["run", "tiny.yaml", "--out", "run"], 2, &["run already holds a run", "--resume"]);
    fs::create_dir(folder.path("thesis")).unwrap();
    fs::write(folder.path("thesis/main.tex"), "").unwrap();
    let words = ["thesis is not empty and not a run directory"];
    folder.fails(["run", "tiny.yaml", "--out", "thesis", "--resume"], 2, &words);
    folder.fails(["run", "tiny.yaml", "--out", "tiny.yaml"], 2, &["tiny.yaml is a file"]);
}

#[test]
fn two_processes_do_not_share_a_run() {
    let folder = Folder::new();
    let mut child = start(&folder, &[]);
    wait_for_step(&folder, &mut child, 5);
    let words = [&format!("run is in use by process {}", child.id())[..]];
    folder.fails(args(&["--resume"]), 3, &words);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn resume_without_a_run_starts_one() {
    let folder = Folder::new();
    let assert = folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume"]);
    assert!(stderr(&assert).contains("nothing to resume in run: a new run"), "{}", stderr(&assert));
}

#[test]
fn recorded_figures_do_not_depend_on_where_a_run_stopped() {
    let log = ["--set", "train.log_every=7"];
    let whole = Folder::new();
    whole.succeeds(args(&log));
    let stopped = Folder::new();
    let mut child = start(&stopped, &log);
    wait_for_step(&stopped, &mut child, 10);
    send("INT", &child);
    assert_eq!(end(child).0, Some(0));
    stopped.succeeds(args(&["--set", "train.log_every=7", "--resume"]));
    let rows = |folder: &Folder| {
        let metrics = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
        // All but the time it took.
        let row = |point: Point| (point.step, point.epoch, point.value);
        ["loss", "grad_norm", "lr"]
            .map(|name| metrics.series(Split::Train, name).into_iter().map(row).collect::<Vec<_>>())
    };
    let (expected, found) = (rows(&whole), rows(&stopped));
    assert_eq!(expected[0].len(), STEPS as usize / 7 + 1);
    assert!(found == expected, "{found:?}\n{expected:?}");
}
