//! Faults of the surroundings: processes that are killed at any of their writes, full disks, closed pipes,
//! signals, limits. What is left is whole, and going on gives what would have been without the fault.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::report::{MetricLog, Split, Summary};
use convmae_framework::weights::{TensorMap, read_safetensors};
use predicates::str::contains;
use serde_json::Value;

use crate::support::{Folder, data, program, stderr};

/// A run that writes everything, twice, in few steps.
const RUN: [&str; 12] = [
    "run",
    "tiny.yaml",
    "--out",
    "run",
    "--set",
    "train.length=3 iterations",
    "--set",
    "checkpoint={ every: 1 iteration, keep: 1 }",
    "--set",
    "evaluate.every=2 iterations",
    "--set",
    "evaluate.pictures=1",
];

const SWEEP: &str = "\
name: chain
stages:
  pretrain:
    recipe: tiny.yaml
    set: { train.length: 1 iteration, evaluate.pictures: 1 }
  finetune:
    recipe: tiny_classifier.yaml
    init_from: pretrain
    set: { train.length: 1 iteration, evaluate.pictures: 1 }
sweep:
  seeds: 1
";

/// Whether the program ends itself on request: a release build does not.
fn has_faults() -> bool {
    cfg!(debug_assertions) && std::env::var_os("E2E_PROGRAM").is_none()
}

/// What a finished run leaves, but for what depends on the clock.
#[derive(PartialEq)]
struct Left {
    files: Vec<String>,
    weights: Vec<u8>,
    state: TensorMap,
    metrics: Vec<(u64, u64)>,
    summary: BTreeMap<String, Value>,
}

impl Left {
    fn of(run: &Path) -> Self {
        let summary = Summary::read(&run.join("summary.json")).unwrap();
        let step = summary.get("step").and_then(Value::as_u64).unwrap();
        let state = read_safetensors(&run.join(format!("checkpoints/step-{step:08}.safetensors"))).unwrap();
        let log = MetricLog::open(&run.join("metrics.parquet")).unwrap();
        let series =
            [(Split::Train, "loss"), (Split::Train, "lr"), (Split::Val, "loss"), (Split::Val, "top1")];
        let points = series.iter().flat_map(|(split, name)| log.series(*split, name));
        let timeless = |name: &str| !name.contains("seconds") && !name.contains("images_per");
        let page = fs::read_to_string(run.join("report.html")).unwrap();
        assert!(
            page.contains("class=\"status finished\""),
            "a report that is not up to date: {}",
            run.display()
        );
        Self {
            files: files(run),
            weights: fs::read(run.join("model.safetensors")).unwrap(),
            state: state.tensors,
            metrics: points.map(|point| (point.step, point.value.to_bits())).collect(),
            summary: summary
                .iter()
                .filter(|(name, _)| timeless(name))
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
        }
    }

    #[track_caller]
    fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.files, other.files, "{what}");
        assert_eq!(self.summary, other.summary, "{what}");
        assert!(self == other, "{what}: other weights, state or metrics");
    }
}

/// All files below a folder, by their paths in it.
fn files(folder: &Path) -> Vec<String> {
    fn add(root: &Path, folder: &Path, files: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(root, &path, files);
            } else {
                files.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    add(folder, folder, &mut found);
    found.sort();
    found
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A run with a fault at a point of its writing.
fn with_fault(folder: &Folder, args: &[&str], fault: &str) -> Output {
    folder.convmae(args.iter().copied()).env("WRITE_FAULT", fault).output().unwrap()
}

#[cfg(unix)]
fn is_killed(output: &Output) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&output.status).is_some()
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_at_any_write_ends_as_if_it_had_not_been() {
    if !has_faults() {
        return;
    }
    let whole = Folder::new();
    whole.succeeds(RUN);
    let whole = Left::of(&whole.path("run"));
    let mut points = 0;
    loop {
        let folder = Folder::new();
        let output = with_fault(&folder, &RUN, &format!("kill@{}", points + 1));
        if output.status.success() {
            break;
        }
        points += 1;
        assert!(is_killed(&output), "{}", text(output.stderr));
        folder.succeeds(RUN.into_iter().chain(["--resume"]));
        Left::of(&folder.path("run")).assert_same(&whole, &format!("killed at point {points}"));
    }
    // The files above, three points each, and what is removed.
    assert!(points > 60, "{points}");
}

#[test]
fn a_disk_that_is_full_at_any_write_is_named_and_leaves_no_litter() {
    if !has_faults() {
        return;
    }
    let whole = Folder::new();
    whole.succeeds(RUN);
    let whole = Left::of(&whole.path("run"));
    for point in 1.. {
        let folder = Folder::new();
        let output = with_fault(&folder, &RUN, &format!("full@{point}"));
        if output.status.success() {
            assert!(point > 60, "{point}");
            break;
        }
        let messages = text(output.stderr);
        assert_eq!(output.status.code(), Some(1), "{messages}");
        assert!(messages.contains("run/") && messages.contains("no storage space"), "{messages}");
        assert!(!files(folder.root()).iter().any(|file| file.contains(".tmp")), "full at point {point}");
        folder.succeeds(RUN.into_iter().chain(["--resume"]));
        Left::of(&folder.path("run")).assert_same(&whole, &format!("full at point {point}"));
    }
}

fn sweep_folder() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("tiny_classifier.yaml")).unwrap();
    fs::write(folder.path("sweep.yaml"), SWEEP).unwrap();
    folder
}

#[cfg(unix)]
#[test]
fn a_sweep_whose_processes_are_killed_at_any_write_ends_as_if_they_had_not_been() {
    if !has_faults() {
        return;
    }
    let runs = ["runs/chain/pretrain/seed-0", "runs/chain/finetune/seed-0"];
    let left = |folder: &Folder| (files(&folder.path("runs")), runs.map(|run| Left::of(&folder.path(run))));
    let whole = sweep_folder();
    whole.succeeds(["sweep", "sweep.yaml"]);
    let whole = left(&whole);
    for point in 1.. {
        let folder = sweep_folder();
        let output = with_fault(&folder, &["sweep", "sweep.yaml"], &format!("kill@{point}"));
        if output.status.success() {
            assert!(point > 30, "{point}");
            break;
        }
        folder.succeeds(["sweep", "sweep.yaml"]);
        let (files, runs) = left(&folder);
        assert_eq!(files, whole.0, "killed at point {point}");
        for (run, whole) in runs.iter().zip(&whole.1) {
            run.assert_same(whole, &format!("killed at point {point}"));
        }
    }
}

/// Standard error or output whose reader is gone.
fn gone() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A device that is always full, where there is one.
fn full() -> Option<Stdio> {
    fs::OpenOptions::new().write(true).open("/dev/full").ok().map(Stdio::from)
}

#[test]
fn a_run_without_a_reader_of_its_messages_is_done() {
    for errors in [Some(gone()), full()].into_iter().flatten() {
        let folder = Folder::new();
        let status = folder.convmae(RUN).stdout(gone()).stderr(errors).status().unwrap();
        assert_eq!(status.code(), Some(0));
        Left::of(&folder.path("run"));
        for args in [&["report", "run"][..], &["runs", "."], &["check", "tiny.yaml"], &["eval", "run"]] {
            let status = folder.convmae(args.iter().copied()).stdout(gone()).stderr(gone()).status().unwrap();
            assert_eq!(status.code(), Some(0), "{args:?}");
        }
        let refused = folder.convmae(["run", "gone.yaml"]).stderr(gone()).status().unwrap();
        assert_eq!(refused.code(), Some(2));
    }
}

#[test]
fn a_sweep_without_a_reader_of_its_plan_is_done() {
    for (plan, code) in [(Some(gone()), 0), (full(), 1)] {
        let Some(plan) = plan else { continue };
        let folder = sweep_folder();
        let status = folder.convmae(["sweep", "sweep.yaml"]).stdout(plan).stderr(gone()).status().unwrap();
        // That the table could not be printed is a failure, unless nobody wants it.
        assert_eq!(status.code(), Some(code));
        Left::of(&folder.path("runs/chain/finetune/seed-0"));
    }
}

fn long<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let args = ["run", "tiny.yaml", "--out", "run", "--set", "train.length=4000 iterations"];
    args.into_iter().chain(more.iter().copied()).collect()
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_mins(2), "no {what}");
        sleep(Duration::from_millis(2));
    }
}

fn begin(folder: &Folder, errors: Stdio) -> Child {
    let child = folder.convmae(long(&[])).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    wait_until("checkpoint", || folder.path("run/checkpoints/last.json").is_file());
    child
}

fn send(signal: &str, process: u32) {
    let kill = format!("kill -{signal} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

fn status(run: &Path) -> Option<Value> {
    Summary::read(&run.join("summary.json")).unwrap().get("status").cloned()
}

#[cfg(unix)]
#[test]
fn signals_that_tell_of_the_end_save_and_stop() {
    for signal in ["HUP", "USR1", "USR2", "XCPU"] {
        let folder = Folder::new();
        let mut child = begin(&folder, Stdio::piped());
        // As from the kernel and from the shell.
        send(signal, child.id());
        send(signal, child.id());
        let mut messages = String::new();
        child.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}: {messages}");
        assert!(messages.contains("the state is saved"), "{signal}: {messages}");
        assert_eq!(status(&folder.path("run")), Some("interrupted".into()), "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_stops_without_a_terminal_too() {
    let folder = Folder::new();
    let mut child = begin(&folder, gone());
    send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(status(&folder.path("run")), Some("interrupted".into()));
}

/// As under `nohup`.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let folder = Folder::new();
    let mut shell = Command::new("sh");
    let script = format!("trap '' HUP; exec '{}' \"$@\"", program().display());
    shell
        .args(["-c", &script, "sh"])
        .args(long(&[]))
        .current_dir(folder.root())
        .env("RAYON_NUM_THREADS", "1");
    let mut child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("checkpoint", || folder.path("run/checkpoints/last.json").is_file());
    let before = fs::read(folder.path("run/checkpoints/last.json")).unwrap();
    send("HUP", child.id());
    wait_until("next checkpoint", || fs::read(folder.path("run/checkpoints/last.json")).unwrap() != before);
    assert!(child.try_wait().unwrap().is_none());
    send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_the_file() {
    let folder = Folder::new();
    // Blocks of 512 bytes: the recipe and the log fit, the checkpoint does not.
    let script = format!("ulimit -f 64; exec '{}' run tiny.yaml --out run", program().display());
    let assert = Command::new("sh").args(["-c", &script]).current_dir(folder.root()).assert().code(1);
    assert.stderr(contains("step-00000003.safetensors: File too large"));
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume"]);
}

#[test]
fn a_model_that_no_memory_holds_is_refused_in_words() {
    let folder = Folder::new();
    let sets = ["model.decoder.embed_dim=65536", "model.decoder.depth=512", "model.decoder.num_heads=64"];
    let args =
        ["run", "tiny.yaml", "--out", "run"].into_iter().chain(sets.iter().flat_map(|set| ["--set", *set]));
    folder.fails(args, 2, &["not enough memory: ", " parameters take ", "this machine has"]);
    assert!(!folder.path("run").exists());
}

#[test]
fn a_number_of_threads_that_is_none_is_refused() {
    let folder = Folder::new();
    for threads in ["0", "-1", "abc", "100000"] {
        let assert =
            folder.convmae(["check", "tiny.yaml"]).env("RAYON_NUM_THREADS", threads).assert().code(2);
        assert.stderr(contains(format!(
            "RAYON_NUM_THREADS is `{threads}`: expected a number of threads, 1 to 1024"
        )));
    }
    folder.convmae(["check", "tiny.yaml"]).env("RAYON_NUM_THREADS", "1024").assert().code(0);
}

#[test]
fn a_sweep_says_why_a_run_failed() {
    let folder = Folder::new();
    let wild = "name: wild\nrecipe: tiny.yaml\nset: { optimizer.lr: 1.0e+30, train.length: 6 iterations }\nsweep: { seeds: 1 }\n";
    fs::write(folder.path("sweep.yaml"), wild).unwrap();
    let words = [
        "failed seed-0",
        "the loss decoder.reconstruction is NaN at step ",
        "nothing was saved from this step",
    ];
    folder.fails(["sweep", "sweep.yaml"], 1, &words);
}

#[test]
fn two_sweeps_with_other_settings_do_not_share_a_directory() {
    let folder = Folder::new();
    let text = "name: s\nrecipe: tiny.yaml\nset: { train.length: 4000 iterations }\nsweep: { seeds: 1 }\n";
    fs::write(folder.path("sweep.yaml"), text).unwrap();
    let mut first =
        folder.convmae(["sweep", "sweep.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("checkpoint", || folder.path("runs/s/seed-0/checkpoints/last.json").is_file());
    let other = ["sweep", "sweep.yaml", "--set", "optimizer.lr=2e-3"];
    let words =
        ["another sweep with other settings is at work in runs/s", "the run seed-0 has another recipe"];
    folder.fails(other, 3, &words);
    #[cfg(unix)]
    send("TERM", first.id());
    #[cfg(not(unix))]
    first.kill().unwrap();
    first.wait().unwrap();
    // What is there is of the first one, and stays so.
    let again = folder.convmae(other).assert().code(1);
    assert!(stderr(&again).contains("was started with another recipe"), "{}", stderr(&again));
}
