//! Sweeps: every run is checked, done once, and ends as if nothing had happened in between.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::report::{Environment, RunDir, Summary};
use convmae_framework::sweep::{Plan, Sweep};
use serde_json::{Value, json};

use crate::golden::on;
use crate::support::{Arithmetic, Folder, data, recipe, stderr, stdout};

const TINY: &str = "\
name: tiny
recipe: tiny.yaml
set: { train.length: 4 iterations }
sweep:
  grid:
    model.mask.type: [BlockwiseMasker, CheckerboardMasker]
    model.backbone.multi_scale_fusion: [true, false]
  seeds: 2
";

const CHAIN: &str = "\
name: chain
stages:
  pretrain: { recipe: tiny.yaml, set: { train.length: 4 iterations, seed: 1 } }
  finetune: { recipe: tiny_classifier.yaml, init_from: pretrain, set: { train.length: 4 iterations } }
  scratch: { recipe: tiny_classifier.yaml, set: { train.length: 4 iterations, init_from: null } }
sweep:
  grid: { pretrain.model.mask.mask_ratio: [0.5, 0.75], finetune.optimizer.lr: [1.0e-3, 2.0e-3] }
  seeds: [7]
";

fn folder(sweep: &str) -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("tiny_classifier.yaml")).unwrap();
    fs::write(folder.path("sweep.yaml"), sweep).unwrap();
    folder
}

fn manifest(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.path(&format!("runs/{name}/sweep.json"))).unwrap()).unwrap()
}

/// The run directories of a sweep, by its manifest.
fn runs(folder: &Folder, name: &str) -> Vec<PathBuf> {
    let manifest = manifest(folder, name);
    let directory = |run: &Value| folder.path(&format!("runs/{name}/{}", run["directory"].as_str().unwrap()));
    manifest["runs"].as_array().unwrap().iter().map(directory).collect()
}

fn summary(run: &Path) -> Summary {
    Summary::read(&run.join("summary.json")).unwrap()
}

/// What a run came to: all that does not depend on the clock, and the bytes of its weights.
fn result(run: &Path) -> (Vec<(String, Value)>, Vec<u8>) {
    let summary = summary(run);
    let timeless =
        summary.iter().filter(|(name, _)| !name.contains("seconds") && !name.contains("images_per"));
    let figures = timeless.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    (figures, fs::read(run.join("model.safetensors")).unwrap())
}

fn start(folder: &Folder, args: &[&str]) -> Child {
    let mut command = folder.convmae(["sweep", "sweep.yaml"].into_iter().chain(args.iter().copied()));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_mins(2), "no {what}");
        sleep(Duration::from_millis(2));
    }
}

fn send(signal: &str, process: &str) {
    let kill = format!("kill -{signal} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
}

/// The processes that hold runs of a sweep.
fn holders(runs: &[PathBuf]) -> Vec<String> {
    let held = runs.iter().filter(|run| RunDir::check_unheld(run).is_err());
    held.map(|run| fs::read_to_string(run.join(".lock")).unwrap().trim().to_owned()).collect()
}

fn has_checkpoint(run: &Path) -> bool {
    fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some())
}

/// A sweep whose runs are long enough to be stopped on the way.
fn long() -> String {
    TINY.replace("4 iterations", "60 iterations")
}

#[test]
fn every_combination_is_run_once() {
    let folder = folder(TINY);
    let first = folder.succeeds(["sweep", "sweep.yaml", "--jobs", "2"]);
    assert!(stdout(&first).contains("8 runs in runs/tiny"), "{}", stdout(&first));
    let manifest = manifest(&folder, "tiny");
    assert_eq!(
        manifest["runs"][0]["axes"],
        json!({
            "model.mask.type": "BlockwiseMasker", "model.backbone.multi_scale_fusion": true, "seed": 0
        })
    );
    assert_eq!(manifest["runs"][7]["name"], "mask-CheckerboardMasker_multi_scale_fusion-false_seed-1");
    for (run, directory) in manifest["runs"].as_array().unwrap().iter().zip(runs(&folder, "tiny")) {
        let summary = summary(&directory);
        assert_eq!(summary.get("status").unwrap(), "finished");
        assert_eq!(summary.get("recipe_digest"), Some(&run["digest"]));
        assert_eq!(summary.get("parameters"), Some(&run["parameters"]));
    }
    assert!(stderr(&first).contains("report: runs/tiny/report.html\n"), "{}", stderr(&first));
    let page = fs::read_to_string(folder.path("runs/tiny/report.html")).unwrap();
    assert!(
        page.contains("<h1>tiny</h1>")
            && page.contains("mask-CheckerboardMasker_multi_scale_fusion-false_seed-1")
    );
    let again = folder.succeeds(["sweep", "sweep.yaml"]);
    assert!(stderr(&again).contains("8 of 8 runs are finished already"), "{}", stderr(&again));
    assert!(!stderr(&again).contains("started"), "{}", stderr(&again));
}

#[test]
fn nothing_happens_in_a_dry_run() {
    let folder = folder(TINY);
    let assert = folder.succeeds(["sweep", "sweep.yaml", "--dry-run", "--set", "train.length=2 epochs"]);
    let first =
        stdout(&assert).lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // 24 images in batches of 4, two batches a step.
    assert_eq!(
        (first[0].as_str(), &first[4..]),
        ("mask-BlockwiseMasker_multi_scale_fusion-true_seed-0", &["6".to_owned(), "waiting".to_owned()][..])
    );
    let json: Value =
        serde_json::from_str(&stdout(&folder.succeeds(["sweep", "sweep.yaml", "--dry-run", "--json"])))
            .unwrap();
    assert_eq!((&json["runs"][3]["steps"], &json["runs"][3]["state"]), (&json!(4), &json!("waiting")));
    assert!(!folder.path("runs").exists());
}

#[test]
fn one_failing_run_does_not_stop_the_rest() {
    let text = "\
name: failing
stages:
  a: { recipe: tiny.yaml, set: { train.length: 6 iterations } }
  b: { recipe: tiny_classifier.yaml, init_from: a, set: { train.length: 2 iterations } }
sweep:
  list:
    - { name: wild, set: { a.optimizer.lr: 1.0e+30 } }
    - { name: calm, set: { a.optimizer.lr: 1.0e-3 } }
";
    let folder = folder(text);
    let words = [
        "failed a/wild",
        "blocked b/wild",
        "2 of 4 runs finished, 1 failed, 1 blocked",
        "runs/failing/a/wild.log",
    ];
    let status = |name: &str| summary(&folder.path(&format!("runs/failing/{name}"))).get("status").cloned();
    folder.fails(["sweep", "sweep.yaml"], 1, &words);
    assert_eq!([status("a/wild"), status("b/calm")], [Some("failed".into()), Some("finished".into())]);
    assert!(!folder.path("runs/failing/b/wild").exists());
    folder.fails(["sweep", "sweep.yaml"], 1, &["it failed before; `--retry-failed` tries it again"]);
    folder.fails(["sweep", "sweep.yaml", "--retry-failed"], 1, &["started a/wild", words[2]]);
}

#[test]
fn killed_at_once_it_goes_on_to_the_figures_of_an_unbroken_one() {
    let whole = folder(&long());
    whole.succeeds(["sweep", "sweep.yaml", "--jobs", "2"]);
    let broken = folder(&long());
    let mut sweep = start(&broken, &["--jobs", "2"]);
    wait_until("manifest", || broken.path("runs/tiny/sweep.json").is_file());
    let directories = runs(&broken, "tiny");
    wait_until("checkpoint", || {
        directories.iter().any(|run| has_checkpoint(run)) && holders(&directories).len() == 2
    });
    send("KILL", &sweep.id().to_string());
    holders(&directories).iter().for_each(|process| send("KILL", process));
    sweep.wait().unwrap();
    let again = broken.succeeds(["sweep", "sweep.yaml", "--jobs", "2"]);
    assert!(stderr(&again).contains("8 of 8 runs finished"), "{}", stderr(&again));
    for (broken, whole) in directories.iter().zip(runs(&whole, "tiny")) {
        assert!(result(broken) == result(&whole), "{}", broken.display());
    }
}

#[test]
fn the_runs_of_a_sweep_that_is_killed_save_and_stop() {
    let folder = folder(&long().replace("60 iterations", "4000 iterations"));
    let mut sweep = start(&folder, &["--jobs", "2"]);
    wait_until("manifest", || folder.path("runs/tiny/sweep.json").is_file());
    let directories = runs(&folder, "tiny");
    wait_until("checkpoints", || directories.iter().filter(|run| has_checkpoint(run)).count() == 2);
    send("KILL", &sweep.id().to_string());
    sweep.wait().unwrap();
    wait_until("end", || holders(&directories).is_empty());
    let begun: Vec<_> = directories.iter().filter(|run| run.is_dir()).collect();
    assert_eq!(begun.len(), 2);
    assert!(begun.iter().all(|run| summary(run).get("status").unwrap() == "interrupted"));
}

#[test]
fn a_signal_stops_it_and_the_printed_command_continues_it() {
    let folder = folder(&long());
    let mut command = folder.convmae(["sweep", "sweep.yaml", "--jobs", "2", "--retry-failed"]);
    command.env("CONVMAE_DESCRIPTION", "it's so");
    let sweep = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("manifest", || folder.path("runs/tiny/sweep.json").is_file());
    let before = manifest(&folder, "tiny");
    let directories = runs(&folder, "tiny");
    wait_until("checkpoint", || directories.iter().any(|run| has_checkpoint(run)));
    send("INT", &sweep.id().to_string());
    let output = sweep.wait_with_output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("stopped, the state is saved; continue with\n"), "{messages}");
    assert!(holders(&directories).is_empty());
    let printed = messages.trim_end().lines().next_back().unwrap();
    assert!(printed.contains("--jobs 2 --retry-failed"), "{printed}");
    let mut shell = Command::new("sh");
    let again = shell.args(["-c", printed]).current_dir(folder.root()).output().unwrap();
    let messages = String::from_utf8(again.stderr).unwrap();
    assert!(messages.contains("8 of 8 runs finished"), "{messages}");
    let digest = |run: &Value, at: usize| run["runs"][at]["digest"].clone();
    assert!((0..8).all(|at| digest(&manifest(&folder, "tiny"), at) == digest(&before, at)));
    assert!(directories.iter().all(|run| summary(run).get("status").unwrap() == "finished"));
}

#[test]
fn a_chain_starts_from_the_runs_before() {
    let folder = folder(CHAIN);
    folder.succeeds(["sweep", "sweep.yaml"]);
    let manifest = manifest(&folder, "chain");
    let names: Vec<_> =
        manifest["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "pretrain/mask_ratio-0.5",
            "pretrain/mask_ratio-0.75",
            "finetune/mask_ratio-0.5_lr-0.001_seed-7",
            "finetune/mask_ratio-0.5_lr-0.002_seed-7",
            "finetune/mask_ratio-0.75_lr-0.001_seed-7",
            "finetune/mask_ratio-0.75_lr-0.002_seed-7",
            "scratch/seed-7",
        ]
    );
    assert_eq!(manifest["runs"][0]["axes"], json!({ "pretrain.model.mask.mask_ratio": 0.5 }));
    assert_eq!(manifest["runs"][3]["upstream"], "pretrain/mask_ratio-0.5");
    assert_eq!(manifest["runs"][6]["axes"], json!({ "seed": 7 }));
    let lock = fs::read_to_string(
        folder.path("runs/chain/finetune/mask_ratio-0.75_lr-0.002_seed-7/recipe.lock.yaml"),
    )
    .unwrap();
    assert!(lock.contains("run: runs/chain/pretrain/mask_ratio-0.75"), "{lock}");
    for run in runs(&folder, "chain") {
        assert_eq!(summary(&run).get("status").unwrap(), "finished", "{}", run.display());
    }
}

/// The plan of a recipe's sweep.
fn plan(name: &str) -> Plan {
    Sweep::load(&recipe(&format!("ablations/{name}.yaml"))).unwrap().expand(None, &[]).unwrap()
}

#[test]
fn every_ablation_is_right() {
    assert_eq!(plan("quickstart_masking").runs.len(), 12);
    let few_labels = plan("cifar10_few_labels");
    assert_eq!(few_labels.runs.len(), 1 + 4 * 3);
    assert_eq!(few_labels.runs[0].name, "pretrain/run");
    assert!(few_labels.runs[1..].iter().all(|run| run.axes.len() == 1 && run.axes[0].0 == "seed"));
    assert_eq!(few_labels.runs.iter().filter(|run| run.upstream == Some(0)).count(), 6);
}

#[cfg(unix)]
#[test]
fn slurm_gets_an_array_job_for_every_stage() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = folder(CHAIN);
    let options = [
        "sweep",
        "sweep.yaml",
        "--slurm",
        "--jobs",
        "3",
        "--slurm-options",
        "--comment='two words' --mem=4G",
        "--slurm-options",
        "--time=1:00:00",
    ];
    let shown = stdout(&folder.succeeds(options.iter().copied().chain(["--dry-run"])));
    for words in [
        "#SBATCH --array=0-3%3\n",
        "#SBATCH --comment='two words' --mem=4G\n#SBATCH --time=1:00:00\n",
        "finetune.sbatch, after pretrain\n",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(!folder.path("runs").exists());
    let mut command = folder.convmae(options);
    let output = command.env("PATH", folder.root()).output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && messages.contains("`sbatch` cannot be started"), "{messages}");

    fs::create_dir(folder.path("bin")).unwrap();
    // Numbers its jobs by their stages' letters, and notes how it was called.
    let sbatch = "#!/bin/sh\necho \"$@\" >> calls\nfor script; do :; done\nbasename \"$script\" .sbatch\n";
    fs::write(folder.path("bin/sbatch"), sbatch).unwrap();
    fs::set_permissions(folder.path("bin/sbatch"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap());
    assert!(folder.convmae(options).env("PATH", path).output().unwrap().status.success());
    assert_eq!(
        fs::read_to_string(folder.path("calls")).unwrap(),
        "\
--parsable runs/chain/pretrain.sbatch
--parsable --dependency=afterok:pretrain runs/chain/finetune.sbatch
--parsable runs/chain/scratch.sbatch
"
    );
    // What Slurm does with it.
    for (script, tasks) in [("pretrain", 2), ("finetune", 4), ("scratch", 1)] {
        for task in 0..tasks {
            let mut shell = Command::new("sh");
            shell.arg(format!("runs/chain/{script}.sbatch")).env("SLURM_ARRAY_TASK_ID", task.to_string());
            let output = shell.current_dir(folder.root()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let left = folder.succeeds(["sweep", "sweep.yaml", "--slurm"]);
    assert!(stderr(&left).contains("nothing is left to do"), "{}", stderr(&left));
}

#[test]
fn the_time_of_the_runs_is_estimated() {
    let text =
        "name: timed\nrecipe: tiny.yaml\nset: { train.length: 1000000 iterations }\nsweep: { seeds: 2 }\n";
    let folder = folder(text);
    let shown = folder.succeeds(["sweep", "sweep.yaml", "--dry-run", "--json", "--estimate"]);
    let plan: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    let seconds = [0, 1].map(|run: usize| plan["runs"][run]["seconds"].as_f64().unwrap());
    assert!(seconds[0] > 0.0 && seconds[0] == seconds[1], "{seconds:?}");
    assert_eq!(stderr(&shown).matches("timing ").count(), 1);
}

const PAIR: &str = "\
name: pair
stages:
  a: { recipe: tiny.yaml, set: { train.length: 2 iterations } }
  b: { recipe: tiny_classifier.yaml, init_from: a, set: { train.length: 2 iterations } }
";

#[test]
fn a_run_whose_source_was_done_anew_is_not_passed_over() {
    let folder = folder(PAIR);
    folder.succeeds(["sweep", "sweep.yaml"]);
    let (a, b) = (folder.path("runs/pair/a/run"), folder.path("runs/pair/b/run"));
    assert_eq!(summary(&b).get("init_from_digest"), summary(&a).get("recipe_digest"));
    // Nothing that changes results, and another spelling of the directory.
    let root = folder.path("runs/pair");
    let same = folder.succeeds([
        "sweep",
        "sweep.yaml",
        "--set",
        "a.train.log_every=7",
        "--out",
        root.to_str().unwrap(),
    ]);
    assert!(stderr(&same).contains("2 of 2 runs are finished already"), "{}", stderr(&same));
    fs::remove_dir_all(&a).unwrap();
    let other = ["sweep", "sweep.yaml", "--set", "a.optimizer.lr=1.0e-4"];
    let words = [
        "its source has changed",
        "remove runs/pair/b/run to run it again",
        "1 of 2 runs finished, 1 failed",
    ];
    folder.fails(other, 1, &words);
    folder.fails(other, 1, &words);
    fs::remove_dir_all(&b).unwrap();
    folder.succeeds(other);
    assert_eq!(summary(&b).get("init_from_digest"), summary(&a).get("recipe_digest"));
}

#[test]
fn a_run_in_progress_elsewhere_is_waited_for() {
    let folder = folder("name: one\nrecipe: tiny.yaml\nset: { train.length: 200 iterations }\n");
    let mut first = start(&folder, &[]);
    let run = folder.path("runs/one/run");
    wait_until("holder", || RunDir::is_held(&run));
    let second = folder.succeeds(["sweep", "sweep.yaml"]);
    let messages = stderr(&second);
    assert_eq!(messages.matches("waiting for run, which another process does").count(), 1, "{messages}");
    assert!(messages.contains("1 of 1 runs finished") && !messages.contains("started run"), "{messages}");
    assert!(first.wait().unwrap().success());
}

#[test]
fn more_seeds_do_not_rename_the_runs_there_are() {
    let folder =
        folder("name: one\nrecipe: tiny.yaml\nset: { train.length: 1 iteration }\nsweep: { seeds: 1 }\n");
    folder.succeeds(["sweep", "sweep.yaml"]);
    assert!(folder.path("runs/one/seed-0/summary.json").is_file());
    let text = fs::read_to_string(folder.path("sweep.yaml")).unwrap().replace("seeds: 1", "seeds: 2");
    fs::write(folder.path("sweep.yaml"), text).unwrap();
    let again = folder.succeeds(["sweep", "sweep.yaml"]);
    assert!(stderr(&again).contains("1 of 2 runs are finished already"), "{}", stderr(&again));
}

#[test]
fn a_run_keeps_the_names_of_all_variants_that_come_to_it() {
    let text = "\
name: shared
recipe: tiny.yaml
sweep:
  list:
    - { name: base }
    - { name: same, set: { seed: 0 } }
";
    let folder = folder(&text.replace("recipe: tiny.yaml", "recipe: tiny.yaml\nset: { seed: 0 }"));
    let shown = stdout(&folder.succeeds(["sweep", "sweep.yaml", "--dry-run", "--json"]));
    let plan: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(plan["runs"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&plan["runs"][0]["name"], &plan["runs"][0]["axes"]),
        (&json!("base"), &json!({ "variant": ["base", "same"] }))
    );
}

#[cfg(unix)]
#[test]
fn a_job_that_is_stopped_fails() {
    let folder = folder("name: job\nrecipe: tiny.yaml\nset: { train.length: 40000 iterations }\n");
    let args =
        ["run", "tiny.yaml", "--set", "train.length=40000 iterations", "--out", "run", "--must-finish"];
    let mut command = folder.convmae(args);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("checkpoint", || has_checkpoint(&folder.path("run")));
    send("TERM", &child.id().to_string());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(summary(&folder.path("run")).get("status").unwrap(), "interrupted");
    let script = stdout(&folder.succeeds(["sweep", "sweep.yaml", "--slurm", "--dry-run"]));
    assert!(script.contains("--resume --must-finish ;;"), "{script}");
    folder.fails(
        ["sweep", "sweep.yaml", "--slurm", "--dry-run", "--slurm-options", "a\nb"],
        2,
        &["one line"],
    );
}

/// The stand-in has as many cards as it is told, and names them.
#[test]
fn a_device_of_its_own_is_what_each_run_of_a_sweep_computes_on() {
    if on() == Arithmetic::Cpu {
        return;
    }
    let folder = folder(&TINY.replace("seeds: 2", "seeds: 1"));
    let mut command = folder.convmae(["sweep", "sweep.yaml", "--jobs", "2"]);
    command.env("FAKECUDA_DEVICES", "4").env("CUDA_VISIBLE_DEVICES", "3,1").assert().code(0);
    let cards: HashSet<String> = runs(&folder, "tiny")
        .iter()
        .map(|run| Environment::read(&run.join("environment.json")).unwrap().device)
        .collect();
    let card = |number: u32| format!("cuda:0 (the processor, by fakecuda, card {number})");
    assert_eq!(cards, HashSet::from([card(3), card(1)]));
}
