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
