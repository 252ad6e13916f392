//! Several processes, started by `mpirun`, train as one does.

mod bench;
mod eval;
mod hosts;
mod slurm;
mod sync;
mod waiting;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use convmae_framework::report::{MetricLog, Split};

use crate::support::{Folder, data, program};

/// A command of several processes on this machine, which has fewer processors.
fn mpirun(folder: &Folder, processes: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--allow-run-as-root", "--oversubscribe", "-n", &processes.to_string()])
        .env("RAYON_NUM_THREADS", "1")
        .current_dir(folder.root());
    command
}

/// A command of several processes, or of one without `mpirun`.
fn command(folder: &Folder, processes: usize, name: &str) -> Command {
    let mut command = match processes {
        1 => Command::new(program()),
        _ => mpirun(folder, processes),
    };
    if processes > 1 {
        command.arg(program());
    }
    command.arg(name).current_dir(folder.root());
    command
}

/// A run of several processes, or of one.
fn run(folder: &Folder, processes: usize, args: &[&str]) -> Output {
    command(folder, processes, "run").args(args).output().unwrap()
}

#[track_caller]
fn succeeds(folder: &Folder, processes: usize, args: &[&str]) -> String {
    let output = run(folder, processes, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{processes} processes: {:?}: {error}", output.status);
    error
}

/// What a run leaves that does not tell of time: weights, the last checkpoint's tensors, figures.
#[derive(Debug, PartialEq)]
struct Left {
    weights: Vec<u8>,
    figures: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Left {
    fn of(run: &Path) -> Self {
        let log = MetricLog::open(&run.join("metrics.parquet")).unwrap();
        let mut figures = BTreeMap::new();
        for split in [Split::Train, Split::Val] {
            for name in log.names(split).into_iter().filter(|name| *name != "images_per_second") {
                let points =
                    log.series(split, name).into_iter().map(|point| (point.step, point.value.to_bits()));
                figures.insert(format!("{split:?} {name}"), points.collect());
            }
        }
        Self { weights: fs::read(run.join("model.safetensors")).unwrap(), figures }
    }
}

/// That 1, 2 and 4 processes leave the same bytes of a recipe, whose steps have 4 batches.
fn assert_same_bytes(recipe: &str, more: &[&str]) {
    let (folder, path) = (Folder::new(), data(recipe));
    let args = |out: &'static str| -> Vec<&str> {
        [path.to_str().unwrap(), "--out", out, "--set", "train.accumulate=4"]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    };
    succeeds(&folder, 1, &args("alone"));
    let alone = Left::of(&folder.path("alone"));
    assert!(alone.figures.len() > 2, "{alone:?}");
    for (processes, out) in [(2, "two"), (4, "four")] {
        succeeds(&folder, processes, &args(out));
        assert!(Left::of(&folder.path(out)) == alone, "{recipe}: {processes} processes");
    }
}

#[test]
fn pretraining_leaves_the_same_bytes() {
    assert_same_bytes("tiny.yaml", &["--set", "data.train.batch_size=2"]);
}

/// Running statistics are those of all batches, in order; an epoch ends with a step of fewer batches.
#[test]
fn segmentation_with_batch_normalisation_leaves_the_same_bytes() {
    let sets =
        ["--set", "data.train.batch_size=2", "--set", "train.drop_last=false", "--set", "init_from=null"];
    assert_same_bytes("tiny_segmentation.yaml", &sets);
}

#[test]
fn detection_leaves_the_same_bytes() {
    assert_same_bytes("tiny_detection.yaml", &["--set", "data.train.batch_size=1"]);
}

#[test]
fn the_sum_of_the_library_is_the_same_up_to_rounding() {
    let folder = Folder::new();
    let args =
        |out, reduction| ["tiny.yaml", "--out", out, "--set", "train.accumulate=4", "--set", reduction];
    succeeds(&folder, 1, &args("tree", "train.reduction=tree"));
    succeeds(&folder, 2, &args("fast", "train.reduction=fast"));
    let losses = |run: &str| {
        let log = MetricLog::open(&folder.path(run).join("metrics.parquet")).unwrap();
        log.series(Split::Train, "loss").into_iter().map(|point| point.value).collect::<Vec<_>>()
    };
    let (tree, fast) = (losses("tree"), losses("fast"));
    assert_eq!(tree.len(), fast.len());
    assert!(tree.iter().zip(&fast).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs()), "{tree:?} {fast:?}");
}

const LONG: [&str; 10] = [
    "tiny.yaml",
    "--out",
    "run",
    "--resume",
    "--set",
    "train.length=120 iterations",
    "--set",
    "checkpoint.every=5 iterations",
    "--set",
    "train.accumulate=4",
];

/// A long run in progress, behind its first checkpoint.
fn start(folder: &Folder, processes: usize) -> Child {
    let mut command = mpirun(folder, processes);
    command.arg(program()).arg("run").args(LONG);
    started(command, &folder.path("run"))
}

/// What a command has started, behind the first checkpoint of its run.
fn started(mut command: Command, run: &Path) -> Child {
    behind_checkpoint(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), run)
}

/// A process, once its run has a checkpoint.
fn behind_checkpoint(child: Child, run: &Path) -> Child {
    let checkpoints = run.join("checkpoints");
    let begun = Instant::now();
    while !fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.next().is_some()) {
        assert!(begun.elapsed() < Duration::from_mins(2), "no checkpoint");
        sleep(Duration::from_millis(20));
    }
    child
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap().success());
}

/// The processes that a launcher has started.
fn children(launcher: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &launcher.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn killed_and_resumed_with_another_number_of_processes_it_ends_with_the_same_bytes() {
    let unbroken = Folder::new();
    succeeds(&unbroken, 1, &LONG);
    let folder = Folder::new();
    let mut child = start(&folder, 4);
    // One is enough: the launcher ends the others.
    signal("KILL", children(child.id())[2]);
    assert!(!child.wait().unwrap().success());
    succeeds(&folder, 2, &LONG);
    assert!(Left::of(&folder.path("run")) == Left::of(&unbroken.path("run")));
}

#[test]
fn a_warning_of_the_end_stops_all_behind_the_same_step() {
    let folder = Folder::new();
    let mut child = start(&folder, 2);
    signal("USR1", child.id());
    assert!(child.wait().unwrap().success());
    let summary = fs::read_to_string(folder.path("run/summary.json")).unwrap();
    assert!(summary.contains("interrupted"), "{summary}");
    let said = succeeds(&folder, 4, &LONG);
    assert!(said.contains("resumed at step"), "{said}");
    assert_eq!(said.matches("resumed at step").count(), 1, "one process speaks: {said}");
}

/// Runs `tiny.yaml` in two processes, of which the second has another override, and returns what is said.
fn with_another(sets: &str) -> (String, Duration) {
    let folder = Folder::new();
    let mut command = mpirun(&folder, 1);
    let own = ["run", "tiny.yaml", "--out", "run"];
    command.arg(program()).args(own).args([":", "-n", "1"]).arg(program()).args(own).args(["--set", sets]);
    let begun = Instant::now();
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    (String::from_utf8_lossy(&output.stderr).into_owned(), begun.elapsed())
}

#[test]
fn what_one_process_cannot_do_is_told_once_and_ends_all() {
    let begun = Instant::now();
    succeeds(&Folder::new(), 2, &["tiny.yaml", "--out", "run", "--set", "train.accumulate=2"]);
    // A fault is told within 5 seconds: it takes no longer than that beyond a whole run.
    let limit = begun.elapsed() + Duration::from_secs(5);
    let (said, took) = with_another("data.train.dataset={type: ImageFolder, root: nowhere}");
    assert_eq!(said.matches("process 1: ").count(), 1, "{said}");
    assert!(said.contains("nowhere"), "{said}");
    assert!(took < limit, "{took:?} of {limit:?}");
    // The first step of this one leaves nothing finite.
    let (said, took) = with_another("optimizer.lr=1e30");
    assert_eq!(said.matches("images:").count(), 1, "{said}");
    assert!(took < limit, "{took:?} of {limit:?}");
}

#[test]
fn what_processes_cannot_share_is_told_with_what_they_can() {
    let folder = Folder::new();
    let output = run(&folder, 4, &["tiny.yaml", "--out", "run", "--set", "train.accumulate=6"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said.matches("a step has 6 batches, which 4 processes cannot share evenly").count(),
        1,
        "{said}"
    );
    assert!(said.contains("4 or 8"), "{said}");
    assert!(!folder.path("run").exists());
    let mut check = mpirun(&folder, 2);
    let output = check.arg(program()).args(["check", "tiny.yaml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.matches("only `run`, `eval` and `bench` work with several processes").count(),
        1,
        "{said}"
    );
}
