//! What can be wrong with the input, and what is said: where, what, and what would be right.

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::assert::OutputAssertExt as _;
use convmae_framework::report::{MetricLog, Split, Summary};
use image::{Rgb, RgbImage};
use predicates::str::contains;
use serde_json::Value;

use crate::support::{Folder, data, program, stderr};

/// Checks `tiny.yaml` with one text replaced: bad recipes exit with 2. `at` is the text that is pointed at.
fn refused(from: &str, to: &str, at: &str, words: &[&str]) {
    let folder = Folder::new();
    folder.recipe_with(from, to);
    folder.fails(["check", "recipe.yaml"], 2, &[words, &[folder.place(at).as_str()]].concat());
}

#[test]
fn an_unknown_key() {
    let words = ["model.mask.mask_ration: unknown key", "did you mean `mask_ratio`?"];
    refused("mask_ratio: 0.75", "mask_ration: 0.75", "mask_ration", &words);
}

#[test]
fn a_wrong_type() {
    let words = ["model.backbone.num_heads: expected an integer, found the string `four`", "num_heads: four"];
    refused("num_heads: 4\n", "num_heads: four\n", "four", &words);
}

#[test]
fn an_unknown_component() {
    let words = ["optimizer.type: `AdamWw` is not an optimizer", "did you mean `AdamW`?"];
    refused("type: AdamW", "type: AdamWw", "AdamWw", &words);
}

#[test]
fn a_mixup_that_mixes_nothing() {
    let words = ["data.train.batch_transforms.0: with both alphas 0 nothing is ever mixed"];
    let mixup = "{ type: Mixup, mixup_alpha: 0, cutmix_alpha: 0 }";
    let split = format!("batch_transforms: [{mixup}]\n    batch_size: 4\n  val");
    refused("batch_size: 4\n  val", &split, &format!("batch_transforms: [|{mixup}"), &words);
}

#[test]
fn a_parameter_that_the_model_does_not_have() {
    let folder = Folder::new();
    folder.recipe_with("betas:", "no_weight_decay: [pos_embd], betas:");
    let words =
        ["optimizer.no_weight_decay.0: the model has no parameter `pos_embd`", "did you mean `pos_embed`?"];
    folder.fails(["check", "recipe.yaml"], 2, &words);
}

#[test]
fn an_image_size_that_the_patch_sizes_do_not_divide() {
    let words = [
        "model.backbone.patch_size: patches of 8 pixels do not divide images of 36 x 36",
        "choose an `image_size` that 8 divides, such as 32",
    ];
    refused("image_size: 32", "image_size: 36", "[2, 2, 2]", &words);
}

#[test]
fn a_mask_ratio_out_of_range() {
    for (ratio, words) in [
        ("1.5", "is out of range: it must be at most 1"),
        ("-1", "is out of range: it must be at least 0"),
        ("0", "removes none of the 16 tokens"),
        ("1", "leaves none of the 16 tokens"),
        ("0.99", "leaves none of the 16 tokens"),
    ] {
        let words = [&format!("model.mask.mask_ratio: {ratio} {words}")[..]];
        refused(
            "mask_ratio: 0.75",
            &format!("mask_ratio: {ratio}"),
            &format!("mask_ratio: |{ratio}"),
            &words,
        );
    }
}

#[test]
fn the_help_for_a_mask_ratio_is_right() {
    let folder = Folder::new();
    let check = |ratio: &str| {
        let set = format!("model.mask.mask_ratio={ratio}");
        folder.convmae(["check", "tiny.yaml", "--set", &set]).assert()
    };
    let messages = stderr(&check("1").code(2));
    let (_, most) = messages.split_once("choose a ratio above 0, up to ").unwrap();
    check(most.trim()).code(0);
    check("0.001").code(0);
}

#[test]
fn a_length_that_is_none() {
    let expected = "train.length: expected a value such as `40 epochs` or `1500 iterations`";
    refused("12 iterations", "40 days", "40 days", &[expected, "found the string `40 days`"]);
    refused("12 iterations", "1.5 iterations", "1.5 iterations", &[expected]);
    let words = ["train.length: expected a string, found the integer 40", "write `40 epochs`"];
    refused("length: 12 iterations", "length: 40", "40,", &words);
    let words = ["schedule.warmup: expected a value such as `40 epochs`"];
    refused("2 iterations }\ntrain", "soon }\ntrain", "soon", &words);
}

#[test]
fn a_device_that_is_none() {
    for name in ["gpu", "cuda:", "cuda:one", "cpu:0"] {
        let expected = "device: expected a value such as `auto`, `cpu`, `cuda` or `cuda:1`";
        refused(
            "name: tiny",
            &format!("name: tiny\ndevice: \"{name}\""),
            &format!("device: |\"{name}"),
            &[expected],
        );
    }
    refused(
        "name: tiny",
        "name: tiny\ndevice: 1",
        "device: |1",
        &["device: expected a string or null, found the integer 1"],
    );
}

#[test]
fn no_device_is_meant_by_auto() {
    let folder = Folder::new();
    let run = |out, sets: &[&str]| {
        let args = ["run", "tiny.yaml", "--out", out, "--set", "train.length=1 iterations"];
        folder.succeeds(args.into_iter().chain(sets.iter().copied()));
        let environment = fs::read_to_string(folder.path(&format!("{out}/environment.json"))).unwrap();
        serde_json::from_str::<Value>(&environment).unwrap()["device"].clone()
    };
    assert_eq!(run("auto", &["--set", "device=auto"]), run("none", &[]));
}

/// Whether it is there is seen when it is needed: `check` needs none.
#[test]
fn a_device_that_the_program_was_not_built_for() {
    let folder = Folder::new();
    let (other, words) = match cfg!(feature = "cuda") {
        true => {
            ("cpu", "device: this program was built with CUDA and computes on cards alone: build without")
        }
        false => ("cuda:1", "device: this program was built without CUDA: build with `--features cuda`"),
    };
    folder.recipe_with("name: tiny", &format!("device: {other}\nname: tiny"));
    folder.succeeds(["check", "recipe.yaml"]);
    let trace = ["trace", "recipe.yaml", "--inputs", "none", "--out", "none"];
    for args in [&["run", "recipe.yaml", "--out", "run"][..], &["bench", "recipe.yaml"], &trace] {
        folder.fails(args.iter().copied(), 2, &[words, &folder.place(&format!("device: |{other}"))]);
    }
    assert!(!folder.path("run").exists());
    let mut command = folder.convmae(["run", "tiny.yaml"]);
    command.env("CONVMAE_DEVICE", other).assert().code(2).stderr(contains(words));
}

#[test]
fn evaluators_without_a_validation_set() {
    let folder = Folder::new();
    let tiny = fs::read_to_string(folder.path("tiny.yaml")).unwrap();
    let (before, rest) = tiny.split_once("  val:\n").unwrap();
    let (_, after) = rest.split_once("  workers").unwrap();
    fs::write(folder.path("recipe.yaml"), format!("{before}  workers{after}")).unwrap();
    let words =
        ["evaluate.evaluators: there is no validation set", "add `val` to `data`, or remove the evaluators"];
    folder.fails(["check", "recipe.yaml"], 2, &words);
}

#[test]
fn two_nodes_with_the_same_parameters() {
    let second = "\n  second: { type: MaeDecoder, from: backbone, embed_dim: 16, depth: 1, num_heads: 4 }\n\noptimizer:";
    let words = ["model.second: its parameter `mask_token` has the name of one of `decoder`", "`prefix:`"];
    refused("\n\noptimizer:", second, "\n  |second:", &words);
    let folder = Folder::new();
    folder.recipe_with("\n\noptimizer:", &second.replace("from:", "prefix: second, from:"));
    folder.succeeds(["check", "recipe.yaml"]);
}

#[test]
fn a_masker_that_nobody_uses() {
    let words = ["model.idle: no backbone takes this masker", "say `from: idle` in the backbone"];
    refused("\n\noptimizer:", "\n  idle: { type: RandomMasker }\n\noptimizer:", "\n  |idle:", &words);
}

#[test]
fn a_source_that_is_not_there() {
    let words = ["model.decoder.from: there is no node `bakcbone` in the model", "these fit: backbone"];
    refused("from: backbone", "from: bakcbone", "bakcbone", &words);
    let words = ["model.decoder.from: `backbone` has no level `s4`", "its levels are: s1, s2, s3"];
    refused("from: backbone", "from: backbone.s4", "backbone.s4", &words);
    let words = ["model.decoder.from: `mask` is a masker, which does not feed a head", "these fit: backbone"];
    refused("from: backbone", "from: mask", "mask, embed_dim", &words);
}

#[test]
fn nodes_that_feed_each_other() {
    let necks = "\n  a: { type: ProjectionNeck, from: b, channels: 4 }\n  b: { type: ProjectionNeck, from: a, channels: 4 }\n\noptimizer:";
    refused("\n\noptimizer:", necks, "b, channels", &["these nodes feed each other in a circle: a, b"]);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let folder = Folder::new();
    let sets =
        ["model.mask.mask_ratio=2", "train.epochs=3", "optimizer.type=Adam", "data.val.batch_size=none"];
    let args = ["check", "tiny.yaml"].into_iter().chain(sets.iter().flat_map(|set| ["--set", *set]));
    let words = [
        "tiny.yaml has 4 problems",
        "mask_ratio: 2 is out",
        "train.epochs: unknown key",
        "`Adam` is not",
        "val.batch_size",
    ];
    folder.fails(args, 2, &words);
}

#[test]
fn a_recipe_that_is_not_there() {
    Folder::new().fails(["run", "tinny.yaml"], 2, &["tinny.yaml", "tiny.yaml"]);
}

/// Arguments that train on a folder of images.
fn on_images(folder: &str) -> Vec<String> {
    let dataset = format!("data.train.dataset={{ type: ImageFolder, root: {folder} }}");
    ["run", "tiny.yaml", "--out", "run", "--set", &dataset].map(str::to_owned).to_vec()
}

#[test]
fn a_dataset_folder_that_is_missing_or_empty() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("photos/train")).unwrap();
    let run = |root: &str, words: &[&str]| {
        folder.fails(on_images(root).iter().map(String::as_str), 2, words);
        assert!(!folder.path("run").exists(), "a run that never started leaves nothing");
    };
    run("photos/val", &["data.train.dataset: photos/val: no such folder; `photos` holds train"]);
    run(
        "photos/train",
        &["data.train.dataset: photos/train: the folder is empty; expected one subfolder per class"],
    );
}

/// Ten images in two classes, of which some are no images.
fn photos(folder: &Folder, corrupt: usize) {
    for number in 0..10 {
        let class = folder.path("photos").join(if number % 2 == 0 { "cat" } else { "dog" });
        fs::create_dir_all(&class).unwrap();
        let path = class.join(format!("{number}.png"));
        if number < corrupt {
            fs::write(path, &b"\x89PNG\r\n\x1a\n and then nothing"[..]).unwrap();
        } else {
            RgbImage::from_pixel(40, 36, Rgb([number as u8 * 20; 3])).save(path).unwrap();
        }
    }
}

#[test]
fn corrupt_images_are_replaced_and_counted_up_to_a_limit() {
    let folder = Folder::new();
    photos(&folder, 2);
    let args = on_images("photos");
    let tolerant = args.iter().map(String::as_str).chain(["--set", "data.max_corrupt=0.2"]);
    let assert = folder.succeeds(tolerant);
    for path in ["photos/cat/0.png", "photos/dog/1.png"] {
        assert!(stderr(&assert).contains(path), "{}", stderr(&assert));
    }
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(summary.get("corrupt_samples").and_then(Value::as_u64), Some(2));
    let report = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(report.contains("photos/cat/0.png"));

    fs::remove_dir_all(folder.path("run")).unwrap();
    let words = ["2 of 10 samples are corrupt, `max_corrupt` allows 1", "photos/"];
    folder.fails(args.iter().map(String::as_str), 1, &words);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(summary.get("status").and_then(Value::as_str), Some("failed"));
}

#[test]
fn a_loss_that_is_not_finite() {
    let folder = Folder::new();
    let args = |lr: &'static str| {
        ["run", "tiny.yaml", "--out", "run", "--set", lr, "--set", "checkpoint.every=1 iteration"]
    };
    let words = [
        "the loss decoder.reconstruction is NaN at step 3",
        "synthetic/train/",
        "the last checkpoint is that of step 2",
        "a lower learning rate",
    ];
    folder.fails(args("optimizer.lr=1e30"), 1, &words);
    assert!(folder.path("run/checkpoints/step-00000002.safetensors").is_file());
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(summary.get("status").and_then(Value::as_str), Some("failed"));
    let log = fs::read_to_string(folder.path("run/log.jsonl")).unwrap();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("is NaN at step")), "{log}");

    let folder = Folder::new();
    let words = ["there is no checkpoint yet"];
    folder.fails(["run", "tiny.yaml", "--out", "run", "--set", "optimizer.lr=1e30"], 1, &words);
}

/// Where it is told late, too: when the step behind it is under way.
#[test]
fn a_device_names_the_step_and_the_images_of_a_loss_that_is_not_finite() {
    let folder = Folder::new();
    let words = [
        "the loss decoder.reconstruction is NaN at step 3",
        "images: synthetic/train/6, synthetic/train/0, synthetic/train/1, synthetic/train/16",
        "there is no checkpoint yet",
    ];
    folder.fails(["run", "tiny.yaml", "--out", "run", "--set", "optimizer.lr=1e30"], 1, &words);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(summary.get("step").and_then(Value::as_u64), Some(2));
    let log = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
    let steps: Vec<u64> = log.series(Split::Train, "loss").iter().map(|point| point.step).collect();
    assert_eq!(steps, [1, 2]);
    assert!(fs::read_dir(folder.path("run/checkpoints")).unwrap().next().is_none());
    assert!(!folder.path("run/model.safetensors").exists());
}

#[test]
fn words_of_other_frameworks() {
    for (from, to, word, key) in [
        ("embed_dim: [8, 12, 16]", "in_chans: 1\n    embed_dim: [8, 12, 16]", "in_chans", "image_channels"),
        ("accumulate: 2", "epochs: 3, accumulate: 2", "epochs", "train.length"),
        ("image_size: 32", "image_size: 32\namp: true", "amp", "precision"),
    ] {
        let folder = Folder::new();
        folder.recipe_with(from, to);
        let help = format!("`{word}` is called `{key}` here");
        folder.fails(["check", "recipe.yaml"], 2, &["unknown key", &help]);
    }
}

#[test]
fn a_precision_that_the_device_does_not_have() {
    let folder = Folder::new();
    let run = |set: &'static str| ["run", "tiny.yaml", "--out", "run", "--set", set];
    folder.fails(run("precision=f16"), 2, &["precision: expected one of `f32`, `tf32`, `bf16`"]);
    folder.succeeds(run("precision=bf16"));
    let (folder, set) = (Folder::new(), "precision=tf32");
    if crate::golden::on() == crate::support::Arithmetic::Cpu {
        let words = ["precision: the CPU does not compute products in `tf32`", "`device: cuda`"];
        folder.fails(run(set), 2, &words);
        assert!(!folder.path("run").exists());
    } else {
        folder.succeeds(run(set));
    }
}

#[test]
fn weights_of_another_shape_are_listed_all_at_once() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iteration"]);
    let inputs = data("pretrain/io.safetensors");
    let args = [
        "trace",
        "tiny.yaml",
        "--weights",
        "run/model.safetensors",
        "--inputs",
        inputs.to_str().unwrap(),
        "--out",
        "out.safetensors",
        "--set",
        "model.backbone.num_heads=2",
        "--set",
        "model.decoder.embed_dim=32",
        "--set",
        "model.backbone.depth=[1, 1, 2]",
        "--set",
        "model.backbone.multi_scale_fusion=false",
    ];
    let words = [
        "run/model.safetensors does not fit the model",
        "decoder_embed.weight: file [16, 16], model [32, 16]",
        "decoder_pred.weight: file [192, 16], model [192, 32]",
        "missing from the file",
        "blocks3.1.attn.qkv.weight",
        "unexpected in the file",
        "stage1_output_decode.weight",
    ];
    folder.fails(args, 1, &words);
    assert!(!folder.path("out.safetensors").exists());
}

#[test]
fn images_of_another_size_than_the_recipe_says() {
    let folder = Folder::new();
    let inputs = data("pretrain/io.safetensors");
    let args = ["trace", "tiny.yaml", "--inputs", inputs.to_str().unwrap(), "--out", "out.safetensors"];
    folder.fails(args, 1, &["the images are 224 x 224", "the recipe's `image_size` is 32 x 32"]);
}

#[test]
fn a_run_directory_that_cannot_be_made() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").unwrap();
    folder.fails(["run", "tiny.yaml", "--out", "file/run"], 1, &["cannot create file/run: Not a directory"]);
    if Path::new("/proc/self").exists() {
        folder.fails(["run", "tiny.yaml", "--out", "/proc/x"], 1, &["cannot create /proc/x: No such file"]);
    }
}

/// The program under a shell that limits the size of files, as a full disk does: writing fails, the program
/// goes on.
#[test]
fn a_disk_that_is_full() {
    let folder = Folder::new();
    let program = program();
    let program = program.display();
    // Blocks of 512 bytes: the recipe and the log fit, the checkpoint does not.
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{program}' run tiny.yaml --out run");
    let mut command = Command::new("sh");
    let assert = command.args(["-c", &script]).current_dir(folder.root()).assert().code(1);
    assert.stderr(contains("cannot write run/checkpoints/step-00000003.safetensors: File too large"));
    let left: Vec<_> = fs::read_dir(folder.path("run/checkpoints")).unwrap().collect();
    assert!(left.is_empty(), "half a checkpoint is none: {left:?}");
    // With room again it goes on.
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--resume"]);
}

/// A real full disk, where the system lets us mount one.
#[test]
fn a_small_file_system() {
    let folder = Folder::new();
    fs::create_dir(folder.path("disk")).unwrap();
    let program = program();
    let program = program.display();
    let script = format!(
        "mount -t tmpfs -o size=300k none disk 2>/dev/null || exit 77; exec '{program}' run tiny.yaml --out disk/run"
    );
    let unshared = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
    let Ok(output) = Command::new("unshare").args(unshared).current_dir(folder.root()).output() else {
        return;
    };
    let messages = String::from_utf8(output.stderr).unwrap();
    // 77: no mount; anything unshare itself says: no namespaces.
    if output.status.code() == Some(77) || messages.starts_with("unshare: ") {
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("No space left on device") && messages.contains("disk/run"), "{messages}");
}

#[test]
fn bad_usage_exits_with_two() {
    let folder = Folder::new();
    for args in
        [&["train"][..], &["run"], &["check", "tiny.yaml", "--json", "--why", "seed"], &["list", "things"]]
    {
        folder.fails(args.iter().copied(), 2, &["--help"]);
    }
    folder.fails(
        ["check", "tiny.yaml", "--why", "optimizer.momentum"],
        2,
        &["no layer sets `optimizer.momentum`"],
    );
}
