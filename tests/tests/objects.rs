//! Object detection as its users see it: evaluation, results files, predictions and pictures.

use std::fs;

use convmae_framework::report::{ClassTable, Summary};
use serde_json::{Value, json};

use crate::support::{Folder, data, stdout};

/// A folder with a finished run, `run`, of a head that knows all objects.
fn detected() -> Folder {
    let folder = Folder::new();
    fs::copy(data("tiny_objects.yaml"), folder.path("objects.yaml")).unwrap();
    folder.succeeds(["run", "objects.yaml", "--out", "run"]);
    folder
}

fn json_of<'a>(folder: &Folder, args: impl IntoIterator<Item = &'a str>) -> Value {
    serde_json::from_str(&stdout(&folder.succeeds(args))).unwrap()
}

#[test]
fn objects_that_are_found_are_measured_where_they_were_annotated() {
    let folder = detected();
    let report = json_of(&folder, ["eval", "run", "--json", "--results", "found.json"]);
    let metrics = &report["metrics"];
    // What is false comes after all that is right.
    for name in ["box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ar100"] {
        assert!((metrics[name].as_f64().unwrap() - 100.0).abs() < 1e-9, "{name}: {metrics}");
    }
    // A box is more than its object.
    let masks = metrics["mask_ap"].as_f64().unwrap();
    assert!(0.0 < masks && masks < 100.0, "{masks}");
    let summary = Summary::read(&folder.path("run/summary.json")).unwrap();
    assert_eq!(summary.get("val.mask_ap").and_then(Value::as_f64), Some(masks));
    assert_eq!(summary.get("best").and_then(Value::as_f64), metrics["box_ap"].as_f64());
    let found: Vec<Value> = serde_json::from_slice(&fs::read(folder.path("found.json")).unwrap()).unwrap();
    // Images without a number have that of their place.
    let images: Vec<u64> = found.iter().map(|found| found["image_id"].as_u64().unwrap()).collect();
    assert!(images.is_sorted() && images.first() == Some(&0) && images.last() == Some(&5), "{images:?}");
    let whole = found.iter().filter(|found| found["bbox"] == json!([0.0, 0.0, 32.0, 32.0]));
    assert!(whole.count() >= 6, "the whole image, as it was read");
    assert!(found.iter().all(|found| found["segmentation"]["size"] == json!([32, 32])));
}

#[test]
fn the_report_has_a_table_of_classes_and_pictures_of_objects() {
    let folder = detected();
    let table = ClassTable::read(&folder.path("run/classes.parquet")).unwrap();
    assert_eq!(table.step, 2);
    let names: Vec<_> = table.classes[0].figures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"]);
    assert_eq!(table.classes[0].curves.len(), 4);
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    for text in
        ["<section id=\"classes\">", "precision over recall of", "prediction of image 1", "label of image 2"]
    {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn predictions_are_objects_with_boxes_names_and_masks() {
    let folder = detected();
    image::RgbImage::from_fn(50, 44, |x, y| image::Rgb([x as u8 * 5, y as u8 * 5, 99]))
        .save(folder.path("photo.png"))
        .unwrap();
    let sets = ["--set", "data.val.transforms=[{type: Resize, size: [64, 64]}, {type: Normalize}]"];
    let predict = |more: &[&'static str]| {
        let args = ["predict", "run", "photo.png"].into_iter().chain(sets).chain(more.iter().copied());
        stdout(&folder.succeeds(args))
    };
    let predictions: Value = serde_json::from_str(&predict(&["--json", "--out", "found"])).unwrap();
    let object = &predictions[0]["objects"][0];
    assert_eq!(object["box"], json!([0.0, 0.0, 50.0, 44.0]));
    assert_eq!(object["segmentation"], json!({ "size": [44, 50], "counts": "0hT2" }));
    let name = object["name"].as_str().unwrap();
    assert!(predict(&[]).contains(&format!("{name} .60 at 0 0 50 44")), "{}", predict(&[]));
    assert_eq!(
        image::open(folder.path("found/000-photo-objects.png")).unwrap().to_rgb8().dimensions(),
        (50, 44)
    );
    let sure: Value = serde_json::from_str(&predict(&["--json", "--min-score", "0.7"])).unwrap();
    assert_eq!(sure[0]["objects"], json!([]));
}

#[test]
fn a_model_that_finds_no_objects_has_no_results() {
    let folder = Folder::new();
    folder.succeeds(["run", "tiny.yaml", "--out", "run", "--set", "train.length=1 iterations"]);
    folder.fails(["eval", "run", "--results", "found.json"], 2, &["no head of the model finds objects"]);
    assert!(!folder.path("found.json").exists());
}

/// A folder with the annotations and the results of the golden.
fn results() -> (Folder, Value) {
    let folder = Folder::new();
    let golden: Value =
        serde_json::from_slice(&fs::read(data("detection/coco/coco_eval.json")).unwrap()).unwrap();
    fs::write(folder.path("instances.json"), golden["ground_truth"].to_string()).unwrap();
    fs::write(folder.path("results.json"), golden["detections"].to_string()).unwrap();
    (folder, golden["expected"].clone())
}

const EVAL: [&str; 5] = ["eval", "--results", "results.json", "--annotations", "instances.json"];

#[test]
fn results_of_any_tool_have_the_figures_of_pycocotools() {
    let (folder, expected) = results();
    let report = json_of(&folder, EVAL.into_iter().chain(["--json"]));
    assert_eq!((&report["images"], &report["detections"]), (&json!(40), &json!(523)));
    for (name, iou_type) in [("box_ap", "bbox"), ("mask_ap", "segm")] {
        let (found, expected) =
            (report["metrics"][name].as_f64().unwrap(), expected[iou_type]["stats"][0].as_f64().unwrap());
        assert!((found / 100.0 - expected).abs() < 1e-6, "{name}: {found} {expected}");
    }
    let masks = stdout(&folder.succeeds(EVAL.into_iter().chain(["--type", "segm", "--per-class"])));
    assert!(masks.starts_with("results.json: 40 images, 523 detections\nmask_ap "), "{masks}");
    assert!(masks.contains("\nmask_ap.") && !masks.contains("box_ap"), "{masks}");
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let (folder, _) = results();
    fs::write(folder.path("empty.json"), "").unwrap();
    let with = |results: &'static str, annotations: &'static str| {
        ["eval", "--results", results, "--annotations", annotations]
    };
    folder.fails(with("empty.json", "instances.json"), 1, &["empty.json: "]);
    folder.fails(with("none.json", "instances.json"), 1, &["none.json", "No such file"]);
    folder.fails(with("results.json", "tiny.yaml"), 1, &["tiny.yaml: "]);
    folder.fails(["eval", "--annotations", "instances.json"], 2, &["--results <FILE>"]);
    folder.fails(EVAL.into_iter().chain(["--weights", "a.pth"]), 2, &["cannot be used with"]);
    folder.fails(["eval"], 2, &["<RECIPE>"]);
}
