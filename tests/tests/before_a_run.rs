//! What `convmae check` tells before a run: all mistakes in one round, also those of data, weights and runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::report::{MetricLog, Split};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::golden::on;
use crate::support::{Arithmetic, Folder, data, program, recipe, stderr, stdout};

/// `classes.yaml` with two images of each of three classes in both splits.
fn classes() -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/classes.yaml"), folder.path("classes.yaml")).unwrap();
    for split in ["train", "val"] {
        for class in ["cat", "dog", "fox"] {
            let path = folder.path(&format!("data/{split}/{class}"));
            fs::create_dir_all(&path).unwrap();
            for number in 0..2 {
                let image = RgbImage::from_pixel(20, 18, Rgb([number * 90, 60, 30]));
                image.save(path.join(format!("{number}.png"))).unwrap();
            }
        }
    }
    folder
}

/// The report of `check --data` on `classes.yaml` with these texts replaced.
fn refused(folder: &Folder, changes: &[(&str, &str)], command: &[&str]) -> String {
    let mut recipe = fs::read_to_string(folder.path("classes.yaml")).unwrap();
    for (from, to) in changes {
        assert!(recipe.contains(from), "{from}");
        recipe = recipe.replacen(from, to, 1);
    }
    fs::write(folder.path("recipe.yaml"), recipe).unwrap();
    stderr(&folder.convmae(command.iter().copied()).assert().code(2))
}

/// What a newcomer needed five rounds for.
const FIVE: [(&str, &str); 4] = [
    ("num_heads: 2", "num_heads: 3"),
    ("root: data, split: train", "root: dta, split: train"),
    ("root: data, split: val", "root: data, split: vall"),
    ("num_classes: 3 }", "num_classes: 4 }\ninit_from: { run: runs/pretrained }"),
];

#[test]
fn five_mistakes_of_five_kinds_are_one_round() {
    let folder = classes();
    fs::create_dir_all(folder.path("runs/pretrain")).unwrap();
    fs::write(folder.path("runs/pretrain/recipe.lock.yaml"), "").unwrap();
    let report = refused(&folder, &FIVE, &["check", "recipe.yaml", "--data"]);
    insta::assert_snapshot!(report);
    assert_eq!(report.matches("help: ").count(), 5, "a remedy each: {report}");
    let run = stderr(&folder.convmae(["run", "recipe.yaml"]).assert().code(2));
    assert_eq!(run, report, "a run's mistakes are the same list");
    assert!(!folder.path("runs/cls").exists());
}

#[test]
fn mistakes_of_keys_wiring_and_shapes_are_one_round() {
    let folder = classes();
    let changes = [
        ("image_size: 16", "image_size: 16\nepochs: 3"),
        ("num_heads: 2", "num_heads: 3"),
        ("from: backbone, num_classes: 3 }", "from: bakbone, num_classes: 3 }"),
        ("warmup: 1 iterations", "warmup: soon"),
        ("{ type: Accuracy }", "{ type: Accuracy }, { type: MeanIoU }"),
        ("{ type: CenterCrop, size: \"${image_size}\" }", "{ type: CenterCrop, size: 12 }"),
    ];
    insta::assert_snapshot!(refused(&folder, &changes, &["check", "recipe.yaml"]));
}

#[test]
fn a_node_behind_one_with_mistakes_adds_none_of_its_own() {
    let folder = classes();
    let sets = |sets: &[&str]| {
        let args = ["check", "classes.yaml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", set]));
        stderr(&folder.convmae(args).assert().code(2))
    };
    for set in ["model.backbone.depth=[1]", "model.backbone.type=ConvNet", "model.backbone.num_heads=3"] {
        let report = sets(&[set]);
        assert!(report.contains("has a problem") && report.contains("model.backbone"), "{report}");
    }
    // Its own are reported.
    let report = sets(&["model.backbone.depth=[1]", "model.classifier.num_clases=3"]);
    assert!(report.contains("has 2 problems") && report.contains("did you mean `num_classes`?"), "{report}");
    let report = sets(&["model.backbone.num_heads=3", "model.classifier.from=bakbone"]);
    assert!(report.contains("has 2 problems") && report.contains("no node `bakbone`"), "{report}");
}

#[test]
fn what_is_not_opened_is_said() {
    let folder = classes();
    let words = "not opened: `data.train.dataset`, `data.val.dataset`; `--data` opens them, too";
    assert!(stdout(&folder.succeeds(["check", "classes.yaml"])).contains(words));
    folder.fails(["check", "classes.yaml", "--set", "seed=x"], 2, &[words, "seed: expected an integer"]);
    let opened = stdout(&folder.succeeds(["check", "classes.yaml", "--data"]));
    assert!(!opened.contains("not opened") && opened.contains("data.val: 6 samples"), "{opened}");
}

#[test]
fn damaged_images_are_named_when_all_are_decoded() {
    let folder = classes();
    fs::write(folder.path("data/train/dog/2.png"), "no image").unwrap();
    let check = |more: &[&str]| {
        let args = ["check", "classes.yaml", "--data"].into_iter().chain(more.iter().copied());
        folder.convmae(args).assert()
    };
    assert!(!stdout(&check(&[]).code(0)).contains("corrupt"));
    let said = "data.train: warning: corrupt: data/train/dog/2.png: not a JPEG, PNG";
    let text = stdout(&check(&["--decode"]).code(0));
    assert!(text.contains(said), "{text}");
    let text = stderr(&check(&["--decode", "--set", "data.max_corrupt=0"]).code(2));
    for words in ["1 of 7 samples are corrupt, `data.max_corrupt` allows 0", "dog/2.png"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn weights_are_matched_before_a_run_and_what_to_leave_can_be_pasted() {
    let folder = Folder::new();
    let narrow = fs::read_to_string(data("finetune/narrow.yaml")).unwrap();
    fs::write(folder.path("narrow.yaml"), narrow).unwrap();
    let from = format!("init_from.weights={}", data("pretrain/state_dict.safetensors").display());
    let check = |leave: &str| {
        let args = ["check", "narrow.yaml", "--data", "--set", &from, "--set", leave];
        folder.convmae(args.map(str::to_owned).iter().map(String::as_str)).assert()
    };
    let report = stderr(&check("init_from.leave=[]").code(2));
    let (_, rest) = report.split_once("`leave: ").unwrap();
    let (pasted, _) = rest.split_once('`').unwrap();
    let text = stdout(&check(&format!("init_from.leave={pasted}")).code(0));
    assert!(text.contains("left in the file"), "{text}");
    assert!(pasted.contains("decoder_blocks.*") && pasted.contains("mask_token"), "{pasted}");
}

#[test]
fn what_belongs_to_nodes_that_are_not_here_is_left_in_a_runs_weights() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iterations"]);
    fs::copy(data("tiny_classifier.yaml"), folder.path("classifier.yaml")).unwrap();
    let own = "init_from.leave=[norm.*, stage1_output_decode.*, stage2_output_decode.*]";
    for (run, weights) in [("run", "null"), ("null", "run/model.safetensors")] {
        let from = [format!("init_from.run={run}"), format!("init_from.weights={weights}")];
        let args = ["check", "classifier.yaml", "--data", "--set", &from[0], "--set", &from[1], "--set", own];
        let text = stdout(&folder.succeeds(args));
        assert!(text.contains("left in the file") && text.contains("decoder"), "{text}");
    }
    let report = ["check", "classifier.yaml", "--data", "--set", "init_from.leave=[]"];
    let report = stderr(&folder.convmae(report).assert().code(2));
    let pasted = "`leave: [stage1_output_decode.*, stage2_output_decode.*, norm.*]`";
    assert!(report.contains(pasted), "{report}");
}

#[test]
fn a_file_for_another_command_is_told_with_that_command() {
    let folder = Folder::new();
    fs::write(folder.path("sweep.yaml"), "name: s\nrecipe: tiny.yaml\nsweep: { seeds: 2 }\n").unwrap();
    fs::write(folder.path("table.yaml"), "title: t\ncolumns: []\nrows: []\n").unwrap();
    fs::write(folder.path("w.safetensors"), "").unwrap();
    for (command, file, words) in [
        ("run", "sweep.yaml", "`convmae sweep sweep.yaml` does it"),
        ("check", "table.yaml", "`convmae table table.yaml`"),
        ("check", "w.safetensors", "`convmae convert --list w.safetensors`"),
        ("sweep", "tiny.yaml", "`convmae run tiny.yaml`"),
        ("table", "sweep.yaml", "`convmae sweep sweep.yaml`"),
    ] {
        folder.fails([command, file], 2, &[words]);
    }
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iterations"]);
    assert!(stdout(&folder.succeeds(["check", "run"])).contains("MaeDecoder"));
}

#[test]
fn misspelt_names_are_told_with_those_that_are_there() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "runs/base", "--set", "train.length=1 iterations"]);
    for (args, words) in [
        (&["check", "tiny.yaml", "--set", "model.bakbone.depth=[1, 1, 1]"][..], "did you mean `backbone`?"),
        (
            &["check", "tiny.yaml", "--set", "train.num_workers=2"],
            "`num_workers` is called `data.workers` here",
        ),
        (&["check", "tiny.yaml", "--set", "optimizer.learning_rate=1"], "called `optimizer.lr` here"),
        (&["check", "tiny.yaml", "--set", "lr_scheduler=x"], "called `schedule` here, and takes a schedule"),
        (
            &["check", "tiny.yaml", "--set", "train.amp=true"],
            "called `precision` here, and takes `f32`, `tf32`",
        ),
        (&["check", "tiny.yaml", "--set", "epochs=3"], "called `train.length` here, and takes `40 epochs`"),
        (
            &["check", "tiny.yaml", "--data", "--set", "init_from={ run: runs/bse }"],
            "did you mean `runs/base`?",
        ),
        (
            &["check", "tiny.yaml", "--data", "--set", "init_from={ run: runs/other }"],
            "there are `runs/base`",
        ),
        (&["check", "runs/bsae"], "did you mean `base`?"),
        (&["eval", "runs/bsae"], "did you mean `runs/base`?"),
        (&["report", "runs/bsae"], "did you mean `runs/base`?"),
    ] {
        folder.fails(args.iter().copied(), 2, &[words]);
    }
}

#[test]
fn the_plan_of_json_has_what_was_opened() {
    let folder = classes();
    let json = stdout(&folder.succeeds(["check", "classes.yaml", "--data", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["data"][0]["samples"], &json["weights"]), (&Value::from(6), &Value::Null));
}

/// What `check` tells of a training, as JSON.
fn outlook(folder: &Folder, args: &[&str]) -> Value {
    let args = ["check"].iter().chain(args).copied().chain(["--json"]);
    serde_json::from_str::<Value>(&stdout(&folder.succeeds(args))).unwrap()["training"].clone()
}

#[test]
fn the_memory_of_a_step_is_known_before_it_is_taken() {
    if on() != Arithmetic::Cpu {
        return;
    }
    let (folder, recipe) = (Folder::new(), recipe("quickstart.yaml"));
    let common = [recipe.to_str().unwrap(), "--set", "data.train.batch_size=96"];
    for more in ["train.checkpoint_activations=false", "train.checkpoint_activations=true"] {
        let args = [&common[..], &["--set", more]].concat();
        let memory = outlook(&folder, &[&args[..], &["--memory"]].concat())["memory"].clone();
        let bench = ["bench"].iter().chain(&args).copied().chain(["--steps", "1", "--warmup", "1", "--json"]);
        let report: Value = serde_json::from_str(&stdout(&folder.succeeds(bench))).unwrap();
        let measured = report["peak_memory_bytes"].as_f64().unwrap();
        let predicted = memory["total"].as_f64().unwrap();
        // Code and heaps hold as much besides, whatever the model.
        let besides = f64::from(40 << 20);
        assert!(
            (predicted - measured).abs() < 0.1 * measured + besides,
            "{predicted} for {measured}: {memory}"
        );
        let parts = ["weights", "gradients", "optimizer", "activations", "program"];
        let parts: u64 = parts.iter().map(|part| memory[*part].as_u64().unwrap()).sum();
        assert_eq!(Some(parts), memory["total"].as_u64());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_step_that_does_not_fit_is_warned_of_before_it_is_taken() {
    if on() != Arithmetic::Cpu {
        return;
    }
    let folder = Folder::new();
    for command in ["bench", "run"] {
        let sets = "--set data.train.batch_size=100000 --set data.train.dataset.length=200000";
        let limited = format!("ulimit -v 4000000; exec {} {command} tiny.yaml {sets}", program().display());
        let mut child = Command::new("/bin/sh")
            .args(["-c", &limited])
            .current_dir(folder.root())
            .env("RAYON_NUM_THREADS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = lines.map(|line| line.unwrap());
        let words = ["data.train.batch_size: a training step needs ", "GiB, this process may use 3.8 GiB"];
        assert!(said.any(|line| words.iter().all(|words| line.contains(words))), "{command}");
        // Whether it would get through is not what is tested.
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn steps_learning_rates_and_groups_are_told() {
    let folder = classes();
    let sets = ["--set", "optimizer.layer_decay=0.5", "--set", "optimizer.lr_scaling=linear_256"];
    let args = [&["classes.yaml"][..], &sets].concat();
    let training = outlook(&folder, &args);
    assert_eq!((&training["steps_per_epoch"], &training["steps"]), (&Value::Null, &Value::Null));
    let training = outlook(&folder, &[&args[..], &["--data"]].concat());
    let figures = ["images_per_step", "steps_per_epoch", "steps"].map(|key| training[key].as_u64());
    assert_eq!(figures, [Some(4), Some(1), Some(2)]);
    assert!((training["lr"].as_f64().unwrap() - 1e-3 * 4.0 / 256.0).abs() < 1e-12);
    let scales: Vec<_> = training["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["lr_scale"].as_f64().unwrap())
        .collect();
    assert!(scales.contains(&0.25) && scales.contains(&0.5) && scales.contains(&1.0), "{scales:?}");
    let args = [&["check"][..], &args, &["--data"]].concat();
    let text = stdout(&folder.succeeds(args.iter().copied()));
    for words in
        ["steps   of 4 images, learning rate 1.5625e-5; 1 an epoch, 2 in all", "layer_0_decay", "0.2500"]
    {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn the_schedule_is_drawn_and_what_bench_has_timed_is_kept() {
    let folder = classes();
    folder.succeeds(["check", "classes.yaml", "--plot", "lr.svg", "--set", "train.length=20 epochs"]);
    let svg = fs::read_to_string(folder.path("lr.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("cls: learning rate of 20 steps"), "{svg}");
    folder.fails(
        ["check", "classes.yaml", "--plot", "lr.svg", "--set", "data.train.dataset.root=gone"],
        2,
        &["no such folder"],
    );
    let check = |more: &[&str]| {
        let mut command =
            folder.convmae(["check", "classes.yaml", "--data"].into_iter().chain(more.iter().copied()));
        stdout(&command.env("XDG_CACHE_HOME", folder.path("cache")).assert().code(0))
    };
    assert!(!check(&[]).contains("time    "));
    assert!(check(&["--time"]).contains("time    "));
    assert!(check(&["--set", "train.length=5 epochs"]).contains(" s for 4 images, 0:0"));
    assert!(!check(&["--set", "data.train.batch_size=3"]).contains("time    "));
}

#[test]
fn seed_and_device_are_arguments_of_their_own_that_check_names() {
    let folder = Folder::new();
    let why = |args: &[&str]| stdout(&folder.succeeds(["check", "tiny.yaml"].iter().chain(args).copied()));
    let text = why(&["--seed", "3", "--set", "seed=2", "--why", "seed"]);
    assert_eq!(text.trim_end(), "--seed 3: 3\n--set seed=2: 2 (overridden)");
    assert!(why(&["--device", "cpu", "--why", "device"]).starts_with("--device cpu: \"cpu\""));
    folder.fails(["run", "tiny.yaml", "--seed", "three"], 2, &["seed: expected an integer", "--seed three"]);
    folder.fails(["run", "tiny.yaml", "--device", "gpu"], 2, &["device: ", "--device gpu"]);

    // The same run as by `--set`, another one than without.
    let weights = |run: &str, args: &[&str]| {
        let one = ["run", "tiny.yaml", "--out", run, "--set", "train.length=1 iteration"];
        folder.succeeds(one.iter().chain(args).copied());
        fs::read(folder.path(run).join("model.safetensors")).unwrap()
    };
    let flagged = weights("flagged", &["--seed", "5"]);
    assert!(flagged == weights("set", &["--set", "seed=5"]));
    assert!(flagged != weights("neither", &[]));
}

#[test]
fn a_dry_run_checks_all_takes_a_step_evaluates_a_batch_and_writes_nothing() {
    let folder = classes();
    let before = files_below(folder.root());
    let args = ["run", "classes.yaml", "--seed", "1", "--dry-run"];
    let text = stdout(&folder.succeeds(args));
    assert!(
        text.starts_with(stdout(&folder.succeeds(["check", "classes.yaml", "--data"])).trim_end()),
        "{text}"
    );
    for words in [
        "dry run: step 1 of ",
        "evaluated then on the first ",
        " images of the validation set: top1 ",
        "nothing was written; the run would be runs/cls",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(files_below(folder.root()), before);

    // Its loss is that of the first step of the run.
    let loss = text.split_once("loss ").unwrap().1.split_once(',').unwrap().0.to_owned();
    folder.succeeds(["run", "classes.yaml", "--seed", "1", "--set", "train.log_every=1"]);
    let log = MetricLog::open(&folder.path("runs/cls/metrics.parquet")).unwrap();
    assert_eq!(format!("{:.4}", log.series(Split::Train, "loss")[0].value), loss);
    let again = stdout(&folder.succeeds(args));
    assert!(again.contains("runs/cls is a run already: `--resume` continues it"), "{again}");

    let report = refused(&folder, &FIVE, &["run", "recipe.yaml", "--dry-run"]);
    assert_eq!(report, refused(&folder, &FIVE, &["check", "recipe.yaml", "--data"]));
    folder.fails(["run", "classes.yaml", "--dry-run", "--resume"], 2, &["cannot be used with"]);
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn what_each_of_several_processes_does_is_told() {
    let (folder, recipe) = (Folder::new(), recipe("pretrain/convmae_base.yaml"));
    let told = outlook(&folder, &[recipe.to_str().unwrap(), "--processes", "12"]);
    // 24 batches of 128 images make the paper's 3,072; float32 gradients go to the 11 others and come back.
    let bytes = told["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["parameters"].as_u64().unwrap())
        .sum::<u64>()
        * 4;
    let expected = serde_json::json!({
        "processes": 12, "batches": 2, "batch_size": 128, "bytes_per_step": 2 * bytes * 11 / 12, "gradients": 2, "reduction": "tree",
    });
    if on() == Arithmetic::Cpu {
        assert_eq!(told["processes"], expected);
    }
    folder.fails(
        ["check", recipe.to_str().unwrap(), "--processes", "7"],
        2,
        &["train.accumulate", "21 or 28"],
    );
}

/// Each of them would train for itself.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_of_a_program_that_knows_no_others_are_refused() {
    let folder = Folder::new();
    let names = ["RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE"].map(|name| format!("OMPI_COMM_WORLD_{name}"));
    let mut command = folder.convmae(["run", "tiny.yaml", "--out", "run"]);
    let assert = command.envs(names.iter().zip(["0", "2", "0", "2"])).assert().code(1);
    let said = stderr(&assert);
    assert!(said.contains("started with 2 processes") && said.contains("--features mpi"), "{said}");
    assert!(!folder.path("run").exists());
}
