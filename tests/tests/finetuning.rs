//! From a pretraining run to a classifier: initial weights, evaluation, prediction, and what is said when
//! they do not fit.

use std::collections::BTreeMap;
use std::fs;

use convmae_framework::report::{ClassTable, ConfusionTable, Details, Summary};
use convmae_framework::weights::{HostTensor, TensorMap, read_safetensors, write_safetensors};
use serde_json::{Value, json};

use crate::support::{Folder, data, stderr, stdout};

/// A folder with a finished pretraining run, `run`, and the recipe of a classifier.
fn pretrained() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_classifier.yaml"), folder.path("classifier.yaml")).unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=3 iterations"]);
    folder
}

/// A folder with a finished finetuning run, `tuned`, besides.
fn finetuned() -> Folder {
    let folder = pretrained();
    folder.succeeds(["run", "classifier.yaml", "--out", "tuned"]);
    folder
}

fn tensors(folder: &Folder, file: &str) -> TensorMap {
    read_safetensors(&folder.path(file)).unwrap().tensors
}

/// The metrics that `eval` prints.
fn metrics(folder: &Folder, args: &[&str]) -> Value {
    let args = ["eval"].iter().chain(args).chain(&["--json"]).copied();
    let report: Value = serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap();
    report["metrics"].clone()
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let folder = pretrained();
    // Nothing moves: the values that are saved are those that were loaded.
    let still = ["--set", "optimizer.lr=0", "--set", "train.ema=null"];
    let assert = folder.succeeds(["run", "classifier.yaml", "--out", "tuned"].into_iter().chain(still));
    let report = stderr(&assert);
    assert!(
        report.contains(
            "4 new in the model: fc_norm (2), head (2)\n26 left in the file: stage1_output_decode (2), "
        ),
        "{report}"
    );
    let (source, tuned) =
        (tensors(&folder, "run/model.safetensors"), tensors(&folder, "tuned/model.safetensors"));
    let mut common = 0;
    for (name, tensor) in tuned.iter() {
        if let Some(source) = source.get(name) {
            assert_eq!(tensor, source, "{name}");
            common += 1;
        }
    }
    assert_eq!(common, tuned.len() - 4);
}

#[test]
fn a_run_tells_which_classes_it_takes_for_which() {
    let folder = finetuned();
    let ConfusionTable { step, confusion } =
        ConfusionTable::read(&folder.path("tuned/confusion.parquet")).unwrap();
    let right = confusion.counts.iter().filter(|((class, predicted), _)| *predicted == Some(*class));
    let right: u64 = right.map(|(_, images)| images).sum();
    let images: u64 = confusion.counts.values().sum();
    let top1 =
        Summary::read(&folder.path("tuned/summary.json")).unwrap().get("val.top1").unwrap().as_f64().unwrap();
    assert_eq!((step, images), (12, 22));
    assert!((top1 - 100.0 * right as f64 / 22.0).abs() < 1e-9, "{top1} {right}");
    let classes = ClassTable::read(&folder.path("tuned/classes.parquet")).unwrap().classes;
    assert_eq!(classes[0].class, confusion.label(0));
    let page = fs::read_to_string(folder.path("tuned/report.html")).unwrap();
    for text in ["<section id=\"confusion\">", "<section id=\"classes\">", " %, truth: ", ">evidence</th>"] {
        assert!(page.contains(text), "{text}");
    }
    // What was left out of the recipe, and only that, holds its default.
    let defaults = Details::read(&folder.path("tuned/report.json")).unwrap().defaults;
    assert!(defaults.iter().any(|key| key == "optimizer.betas"), "{defaults:?}");
    assert!(defaults.iter().all(|key| key != "optimizer.lr" && key != "train.length"), "{defaults:?}");
}

#[test]
fn an_official_checkpoint_leaves_what_the_official_code_leaves() {
    let folder = Folder::new();
    fs::copy(data("finetune/narrow.yaml"), folder.path("narrow.yaml")).unwrap();
    let weights = data("pretrain/state_dict.safetensors");
    let run = |out: &str, leave: &str| {
        let from = format!("init_from.weights={}", weights.display());
        let args = ["run", "narrow.yaml", "--out", out, "--set", &from, "--set", leave];
        let args: Vec<String> = args.map(str::to_owned).into();
        folder
            .convmae(args.iter().map(String::as_str).chain(["--set", "train.length=1 iterations"]))
            .output()
            .unwrap()
    };
    let output = run(
        "a",
        "init_from.leave=[decoder_*, mask_token, norm.*, stage1_output_decode.*, stage2_output_decode.*]",
    );
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    let info: Value = serde_json::from_slice(&fs::read(data("finetune/info.json")).unwrap()).unwrap();
    let official = &info["load_pretrain_global_pool_true"];
    for (what, list) in [("new in the model", "missing_keys"), ("left in the file", "unexpected_keys")] {
        let count = official[list].as_array().unwrap().len();
        assert!(text.contains(&format!("{count} {what}")), "{text}");
    }
    let output =
        run("b", "init_from.leave=[decoder_*, mask_token, stage1_output_decode.*, stage2_output_decode.*]");
    let text = String::from_utf8(output.stderr).unwrap();
    for words in ["2 unexpected in the file:", "norm.weight", "norm.bias", "init_from.leave"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!folder.path("b").exists(), "nothing is begun with weights that do not fit");
}

#[test]
fn weights_of_another_width_are_refused_with_every_mismatch() {
    let folder = pretrained();
    let args = ["run", "classifier.yaml", "--out", "tuned", "--set", "model.backbone.embed_dim=[8, 16, 16]"];
    folder.fails(
        args,
        2,
        &[
            "mismatched:",
            "patch_embed2.proj.weight: file [12, 8, 2, 2], model [16, 8, 2, 2]",
            "blocks2.0.norm1.weight",
        ],
    );
}

#[test]
fn a_position_embedding_is_interpolated_to_another_grid() {
    let folder = pretrained();
    let args =
        ["run", "classifier.yaml", "--out", "tuned", "--set", "image_size=48", "--set", "optimizer.lr=0"];
    let report = stderr(&folder.succeeds(args));
    assert!(report.contains("pos_embed: file [1, 16, 16], model [1, 36, 16]"), "{report}");
    let own = tensors(&folder, "tuned/model.safetensors").get("pos_embed").unwrap().to_f32();
    let source = tensors(&folder, "run/model.safetensors").get("pos_embed").unwrap().to_f32();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    assert!((mean(&own) - mean(&source)).abs() < 0.02);
}

#[test]
fn the_run_to_start_from_must_be_finished_and_one_of_two_sources() {
    let folder = pretrained();
    fs::remove_file(folder.path("run/model.safetensors")).unwrap();
    folder.fails(["run", "classifier.yaml", "--out", "tuned"], 2, &["the run is not finished", "--resume"]);
    let both = ["check", "classifier.yaml", "--set", "init_from.weights=a.pth"];
    folder.fails(both, 2, &["init_from: it names a file and a run"]);
}

#[test]
fn a_resumed_run_does_not_need_the_weights_that_it_started_from() {
    let folder = finetuned();
    let whole = fs::read(folder.path("tuned/model.safetensors")).unwrap();
    fs::remove_dir_all(folder.path("tuned")).unwrap();
    folder.succeeds(["run", "classifier.yaml", "--out", "tuned"]);
    fs::remove_file(folder.path("tuned/checkpoints/step-00000012.safetensors")).unwrap();
    fs::remove_file(folder.path("tuned/model.safetensors")).unwrap();
    fs::remove_file(folder.path("tuned/checkpoints/last.json")).unwrap();
    fs::remove_dir_all(folder.path("run")).unwrap();
    folder.succeeds(["run", "classifier.yaml", "--out", "tuned", "--resume"]);
    assert_eq!(fs::read(folder.path("tuned/model.safetensors")).unwrap(), whole);
}

#[test]
fn eval_gives_the_figures_of_training_whatever_the_batch_size() {
    let folder = finetuned();
    let summary = Summary::read(&folder.path("tuned/summary.json")).unwrap();
    let of_training = json!({
        "top1": summary.get("val.top1"), "top5": summary.get("val.top5"), "loss": summary.get("val.loss"),
    });
    assert_eq!(metrics(&folder, &["tuned"]), of_training);
    let checkpoint = "tuned/checkpoints/step-00000012.safetensors";
    assert_eq!(metrics(&folder, &["classifier.yaml", "--weights", checkpoint]), of_training);
    for size in [1, 7, 22, 100] {
        let size = format!("data.val.batch_size={size}");
        let other = metrics(&folder, &["tuned", "--set", &size]);
        assert_eq!((&other["top1"], &other["top5"]), (&of_training["top1"], &of_training["top5"]), "{size}");
        let loss = |metrics: &Value| metrics["loss"].as_f64().unwrap();
        assert!((loss(&other) - loss(&of_training)).abs() < 1e-6, "{size}");
    }
}

#[test]
fn a_reconstruction_is_evaluated_as_in_training_too() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run"]);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(metrics(&folder, &["run"])["loss"], *summary.get("val.loss").unwrap());
    folder.fails(["eval", "tiny.yaml"], 2, &["which weights?", "--weights"]);
}

#[test]
fn predict_names_classes_and_writes_pictures() {
    let folder = finetuned();
    let image = data("transforms/chelsea.png");
    let image = image.to_str().unwrap();
    // The recipe's validation images are 32 x 32 as they come; a photograph has to be cut.
    let crop = "data.val.transforms=[{ type: Resize, size: 32 }, { type: CenterCrop, size: 32 }, { type: Normalize }]";
    let args =
        ["predict", "tuned", image, image, "--set", crop, "--out", "pictures", "--json", "--topk", "3"];
    let predictions: Vec<Value> = serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap();
    assert_eq!(predictions.len(), 2);
    let classes = predictions[0]["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 3);
    assert!(classes.iter().all(|class| class["name"].is_string()));
    let probability = |at: usize| classes[at]["probability"].as_f64().unwrap();
    assert!(probability(0) >= probability(1) && probability(1) >= probability(2));
    let pictures = fs::read_dir(folder.path("pictures")).unwrap().count();
    assert_eq!(pictures, 4, "the original and the evidence of both");
    folder.fails(["predict", "tuned", "none.jpg"], 1, &["none.jpg"]);
}

#[test]
fn a_probe_trains_its_head_and_nothing_else() {
    let folder = pretrained();
    let probe = [
        "model.classifier={ type: LinearProbeHead, from: backbone, num_classes: 10, pool: mean }",
        "model.backbone.frozen=true",
        "optimizer={ type: Lars, lr: 1.0 }",
    ];
    let args: Vec<&str> = ["run", "classifier.yaml", "--out", "probe"]
        .into_iter()
        .chain(probe.iter().flat_map(|set| ["--set", set]))
        .collect();
    folder.succeeds(args);
    let (source, probe) =
        (tensors(&folder, "run/model.safetensors"), tensors(&folder, "probe/model.safetensors"));
    let kept = probe.iter().filter(|(name, tensor)| source.get(name) == Some(*tensor)).count();
    let own: Vec<&str> = probe.names().filter(|name| !source.contains(name)).collect();
    assert_eq!(kept + own.len(), probe.len());
    assert!(own.iter().all(|name| name.starts_with("head.") || name.starts_with("fc_norm.")), "{own:?}");
    assert!(probe.get("head.1.bias").unwrap().to_f32().iter().any(|&bias| bias != 0.0));
}

#[test]
fn heads_and_data_must_agree_about_the_classes() {
    let folder = pretrained();
    let args = ["run", "classifier.yaml", "--out", "tuned", "--set", "model.classifier.num_classes=7"];
    folder.fails(args, 2, &["model.classifier.num_classes: the head tells 7 classes apart", "set it to 10"]);
}

#[test]
fn class_folders_of_training_and_validation_must_be_the_same() {
    let folder = pretrained();
    for (split, classes) in [("train", ["cat", "dog"]), ("val", ["cat", "fox"])] {
        for class in classes {
            let path = folder.path(&format!("data/{split}/{class}"));
            fs::create_dir_all(&path).unwrap();
            for image in 0..4 {
                image::RgbImage::new(40, 40).save(path.join(format!("{image}.png"))).unwrap();
            }
        }
    }
    let args = [
        "run",
        "classifier.yaml",
        "--out",
        "tuned",
        "--set",
        "data.train.dataset={ type: ImageFolder, root: data, split: train }",
        "--set",
        "data.val.dataset={ type: ImageFolder, root: data, split: val }",
    ];
    folder.fails(args, 2, &["data.val.dataset", "only in training: dog; only in validation: fox"]);
}

#[test]
fn an_unknown_part_of_an_augmentation_is_named() {
    let folder = pretrained();
    let transforms =
        "data.train.transforms=[{ type: RandAugment, policy: rand-m9-foo5 }, { type: Normalize }]";
    folder.fails(["check", "classifier.yaml", "--set", transforms], 2, &["transforms.0.policy", "foo5"]);
}

#[test]
fn the_official_code_can_load_what_convert_writes_of_a_classifier() {
    let folder = finetuned();
    folder.succeeds(["convert", "tuned/model.safetensors", "tuned.pth"]);
    assert_eq!(
        metrics(&folder, &["classifier.yaml", "--weights", "tuned.pth"]),
        metrics(&folder, &["tuned"])
    );
}

#[test]
fn a_head_of_another_number_of_classes_can_be_left_behind() {
    let folder = finetuned();
    let mut source = tensors(&folder, "tuned/model.safetensors");
    source.insert("head.bias", HostTensor::from_f32(vec![3], &[0.0; 3]).unwrap());
    source.insert("head.weight", HostTensor::from_f32(vec![3, 16], &[0.0; 48]).unwrap());
    write_safetensors(&folder.path("three.safetensors"), &source, &BTreeMap::new()).unwrap();
    let args = [
        "run",
        "classifier.yaml",
        "--out",
        "again",
        "--set",
        "init_from.run=null",
        "--set",
        "init_from.weights=three.safetensors",
    ];
    folder.fails(args, 2, &["head.weight: file [3, 16], model [10, 16]", "`new: [head.*]`"]);
    folder.succeeds(args.into_iter().chain(["--set", "init_from.new=[head.*]"]));
}
