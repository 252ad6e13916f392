//! Segmentation as its users see it.

use std::fs;

use convmae_framework::report::Summary;
use convmae_framework::weights::{interpolate_positions, read_safetensors};
use serde_json::Value;

use crate::support::{Folder, data, recipe, stderr, stdout};

/// A folder with a finished pretraining run, `run`, and the finished run of a segmentor that starts from it,
/// `tuned`.
fn segmented() -> (Folder, String) {
    let folder = Folder::new();
    fs::copy(data("tiny_segmentation.yaml"), folder.path("segmentor.yaml")).unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=3 iterations"]);
    let messages = stderr(&folder.succeeds(["run", "segmentor.yaml", "--out", "tuned"]));
    (folder, messages)
}

#[test]
fn the_base_segmentor_has_the_official_size() {
    let recipe = recipe("segmentation/upernet_convmae_base_160k.yaml");
    let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
    let checked: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(checked["trainable"], 160_175_664);
    assert_eq!(checked["macs"]["computed"], 612_920_983_552_u64);
    let parameters: Vec<_> =
        checked["nodes"].as_array().unwrap().iter().map(|node| &node["parameters"]).collect();
    assert_eq!(parameters, [91_091_716, 67_275_414, 1_808_534]);
}

/// Added up by hand from mmsegmentation's layers; the README of Alpha-VL/ConvMAE states 163 M.
#[test]
fn the_segmentor_of_the_mae_baseline_has_the_size_of_its_source() {
    let recipe = recipe("segmentation/upernet_mae_base_160k.yaml");
    let json = stdout(&Folder::new().succeeds(["check", recipe.to_str().unwrap(), "--json"]));
    let checked: Value = serde_json::from_str(&json).unwrap();
    let parameters: Vec<_> =
        checked["nodes"].as_array().unwrap().iter().map(|node| &node["parameters"]).collect();
    assert_eq!(parameters, [87_023_424, 7_081_728, 67_963_542, 1_808_534]);
    assert_eq!(checked["trainable"], 163_877_228);
    // `num_layers + 2` layers of `layer_decay_optimizer_constructor.py`: the first to 0.65^13, necks and heads to 1.
    let groups = checked["training"]["groups"].as_array().unwrap();
    let scales: std::collections::BTreeSet<String> =
        groups.iter().map(|group| format!("{:.4}", group["lr_scale"].as_f64().unwrap())).collect();
    let expected = (0..14).map(|layer| format!("{:.4}", 0.65_f64.powi(13 - layer))).collect();
    assert_eq!(scales, expected);
}

#[test]
fn a_segmentor_starts_from_a_pretraining_run_and_eval_finds_what_the_run_found() {
    let (folder, messages) = segmented();
    assert!(
        messages.contains("new in the model: backbone (10), decode_head (62), auxiliary_head (8)"),
        "{messages}"
    );
    let summary = Summary::read(&folder.path("tuned/summary.json")).unwrap();
    let report: Value = serde_json::from_str(&stdout(&folder.succeeds(["eval", "tuned", "--json"]))).unwrap();
    for name in ["mIoU", "mAcc", "aAcc"] {
        let run = summary.get(&format!("val.{name}")).and_then(Value::as_f64).unwrap();
        assert_eq!(report["metrics"][name].as_f64(), Some(run), "{name}");
    }
    assert!(summary.get("train.decode.acc_seg").is_some());
}

#[test]
fn a_resumed_segmentor_ends_with_the_bytes_of_an_unbroken_one() {
    let (folder, _) = segmented();
    let weights = fs::read(folder.path("tuned/model.safetensors")).unwrap();
    // Without its weights and with a damaged last checkpoint it goes on from the one before, running
    // statistics and all.
    fs::remove_file(folder.path("tuned/model.safetensors")).unwrap();
    fs::write(folder.path("tuned/checkpoints/step-00000006.safetensors"), "").unwrap();
    let messages = stderr(&folder.succeeds(["run", "segmentor.yaml", "--out", "tuned", "--resume"]));
    assert!(messages.contains("resumed at step 4 of 6"), "{messages}");
    assert!(fs::read(folder.path("tuned/model.safetensors")).unwrap() == weights, "other bytes");
}

#[test]
fn predictions_are_label_maps_as_large_as_the_image() {
    let (folder, _) = segmented();
    image::RgbImage::from_fn(50, 44, |x, y| image::Rgb([x as u8 * 5, y as u8 * 5, 99]))
        .save(folder.path("photo.png"))
        .unwrap();
    folder.succeeds(["predict", "tuned", "photo.png", "--out", "found"]);
    assert_eq!(
        image::open(folder.path("found/000-photo-labels.png")).unwrap().to_rgba8().dimensions(),
        (50, 44)
    );
    assert!(folder.path("found/000-photo-overlay.png").is_file());
}

#[test]
fn it_has_to_be_clear_which_head_predicts() {
    let folder = Folder::new();
    fs::copy(data("tiny_segmentation.yaml"), folder.path("segmentor.yaml")).unwrap();
    let check = |set: &str, words: &[&str]| folder.fails(["check", "segmentor.yaml", "--set", set], 2, words);
    check(
        "model.aux.auxiliary=false",
        &["`decode` and `aux` both predict the classes of pixels", "set `auxiliary: true`"],
    );
    check(
        "model.decode={type: FcnHead, from: backbone.s3, channels: 8, num_classes: 11, prefix: decode_head, auxiliary: true}",
        &["no head of the model predicts classes of pixels"],
    );
}

#[test]
fn a_grid_of_other_proportions_is_interpolated_even_if_it_has_as_many_positions() {
    let folder = Folder::new();
    fs::copy(data("tiny_segmentation.yaml"), folder.path("segmentor.yaml")).unwrap();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iterations"]);
    let sets = [
        "image_size=[64,16]",
        "evaluate.evaluators=[]",
        "evaluate.inference=null",
        "data.val=null",
        "optimizer.lr=0",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let train = [
        "--set",
        "train.length=1 iterations",
        "--set",
        "model.backbone.s4=null",
        "--set",
        "model.backbone.relative_positions=none",
    ];
    folder.succeeds(["run", "segmentor.yaml", "--out", "wide"].into_iter().chain(sets).chain(train));
    let embedding = |run: &str, name: &str| {
        let weights = read_safetensors(&folder.path(&format!("{run}/model.safetensors"))).unwrap().tensors;
        weights.get(name).unwrap().to_f32()
    };
    let (square, wide) = (embedding("run", "pos_embed"), embedding("wide", "backbone.pos_embed"));
    assert_eq!(wide, interpolate_positions(&square, 16, 0, (4, 4), (8, 2)));
}
