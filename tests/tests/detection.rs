//! Mask R-CNN as its users see it: a chain of instance heads that trains, evaluates, and is put together in
//! other ways by a recipe.

use std::fs;

use convmae_framework::report::Summary;
use serde_json::Value;

use crate::support::{Folder, data, stdout};

/// A folder with the recipe, `detector.yaml`.
fn folder() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_detection.yaml"), folder.path("detector.yaml")).unwrap();
    folder
}

#[test]
fn a_detector_is_evaluated_as_in_its_run_and_writes_what_it_finds() {
    let folder = folder();
    folder.succeeds(["run", "detector.yaml", "--out", "run"]);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    let text = stdout(&folder.succeeds(["eval", "run", "--json", "--results", "found.json"]));
    let report: Value = serde_json::from_str(&text).unwrap();
    for name in ["box_ap", "mask_ap", "box_ar100"] {
        let of_run = summary.get(&format!("val.{name}")).and_then(Value::as_f64);
        assert!(of_run.is_some() && report["metrics"][name].as_f64() == of_run, "{name}: {report}");
    }
    let found: Vec<Value> = serde_json::from_slice(&fs::read(folder.path("found.json")).unwrap()).unwrap();
    assert!(found.len() > 6 && found.len() <= 6 * 5, "{}", found.len());
    assert!(found.iter().all(|found| found["segmentation"]["size"] == serde_json::json!([64, 64])));
}

#[test]
fn a_cascade_is_three_box_heads_in_the_recipe() {
    let folder = folder();
    let box_head = |name: &str, given: &str, iou: f32, refine: bool| {
        format!(
            "  {name}: {{ type: BoxHead, prefix: {name}, from: [neck.p2, neck.p3, {given}], num_classes: 2, \
             fc_dims: [16], iou_threshold: {iou}, proposal_append_gt: {}, positive_fraction: {}, \
             cls_agnostic_bbox_reg: true, batch_size_per_image: 16, score_thresh: 0.0, refine: {refine} }}\n",
            given == "rpn",
            if given == "rpn" { 0.25 } else { 1.0 },
        )
    };
    let cascade = [
        "extends: detector.yaml\nmodel:\n".to_owned(),
        box_head("box1", "rpn", 0.5, true),
        box_head("box2", "box1", 0.6, true),
        box_head("box", "box2", 0.7, false),
        "  mask: { from: [neck.p2, neck.p3, box] }\n".to_owned(),
    ];
    fs::write(folder.path("cascade.yaml"), cascade.concat()).unwrap();
    folder.succeeds(["run", "cascade.yaml", "--out", "run"]);
    let log = fs::read_to_string(folder.path("run/log.jsonl")).unwrap();
    assert!(log.contains("box_ap"), "{log}");
}

/// A folder with photographs, `photos`, and `photos.yaml`: a recipe on them, with what it has of a model.
fn photos(of: &str, model: &str) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("photos")).unwrap();
    for file in fs::read_dir(data("photos")).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, folder.path("photos").join(file.file_name().unwrap())).unwrap();
    }
    for name in [of, "photos.yaml"] {
        fs::copy(data(name), folder.path(name)).unwrap();
    }
    let recipe = format!("extends: [{of}, photos.yaml]\nmodel: {model}\n");
    fs::write(folder.path("recipe.yaml"), recipe).unwrap();
    folder
}

#[test]
fn photographs_annotated_by_hand_are_trained_on() {
    let folder = photos("tiny_detection.yaml", "{ box: { num_classes: 6 }, mask: { num_classes: 6 } }");
    folder.succeeds(["run", "recipe.yaml", "--out", "run"]);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    for name in ["train.rpn.cls", "train.box.cls", "train.mask.mask", "val.box_ap", "val.mask_ap"] {
        assert!(summary.get(name).and_then(Value::as_f64).is_some_and(f64::is_finite), "{name}: {summary:?}");
    }
}

/// Oracle: pycocotools 2.0.11 on the annotations and the results.
#[test]
fn results_on_photographs_have_the_figures_of_pycocotools() {
    let folder = photos("tiny_objects.yaml", "{ objects: { num_classes: 6 } }");
    folder.succeeds(["run", "recipe.yaml", "--out", "run"]);
    folder.succeeds(["eval", "run", "--results", "found.json"]);
    let files = ["eval", "--results", "found.json", "--annotations", "photos/instances.json", "--json"];
    let report: Value = serde_json::from_str(&stdout(&folder.succeeds(files))).unwrap();
    let expected: Value =
        serde_json::from_slice(&fs::read(data("photos/pycocotools.json")).unwrap()).unwrap();
    let names = [
        "ap",
        "ap50",
        "ap75",
        "ap_small",
        "ap_medium",
        "ap_large",
        "ar1",
        "ar10",
        "ar100",
        "ar_small",
        "ar_medium",
        "ar_large",
    ];
    for (iou_type, prefix) in [("bbox", "box"), ("segm", "mask")] {
        for (at, name) in names.iter().enumerate() {
            let ours = report["metrics"][format!("{prefix}_{name}")].as_f64().unwrap() / 100.0;
            let theirs = expected[iou_type][at].as_f64().unwrap();
            assert!((ours - theirs).abs() < 1e-12, "{prefix}_{name}: {ours} {theirs}");
        }
    }
}

#[test]
fn a_mask_head_of_a_third_party_takes_the_place_of_one_node() {
    let folder = folder();
    let recipe = "extends: detector.yaml\nmodel:\n  mask: { type: MeanShapeHead, from: box, num_classes: 2, mask_size: 14 }\n";
    fs::write(folder.path("shapes.yaml"), recipe).unwrap();
    folder.succeeds(["run", "shapes.yaml", "--out", "run"]);
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    let figure = |name: &str| summary.get(name).and_then(Value::as_f64);
    // Untrained cells are as probable as not, which covers boxes.
    assert!(figure("train.mask.mean_shape").is_some_and(|loss| 0.0 < loss && loss < 0.8), "{summary:?}");
    assert!(figure("val.mask_ap").is_some(), "{summary:?}");
    let report = stdout(&folder.succeeds(["eval", "run", "--json", "--results", "found.json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["metrics"]["mask_ap"].as_f64(), figure("val.mask_ap"));
}

#[test]
fn heads_that_do_not_fit_the_chain_or_the_data_are_refused_where_they_are() {
    let folder = folder();
    let check = |set: &str, expected: &[&str]| {
        folder.fails(["check", "detector.yaml", "--set", set], 2, expected);
    };
    check("model.box.from=[neck.p2, neck.p3]", &["model.box.from", "no instance head comes before it"]);
    check("model.mask.from=[neck.p2, neck.p3, rpn, box]", &["it takes the regions of one instance head"]);
    check("model.mask.from=[neck.p2, box.p3]", &["`box` is an instance head, it has no levels"]);
    check("model.rpn.anchor_sizes=[16]", &["model.rpn.anchor_sizes", "there are 1 for 4 levels"]);
    let run = ["run", "detector.yaml", "--set", "model.box.num_classes=3"];
    folder.fails(run, 2, &["the head tells 3 classes apart, the training set has 2"]);
}
