use std::collections::BTreeMap;
use std::sync::Arc;

use convmae_framework::component::RoiMask;
use convmae_framework::data::{Instances, Mask, Normalization, Original, Rle, Target};
use convmae_framework::metrics::coco::{ResultsFile, evaluate_files};
use image::{GrayImage, Luma};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Images with what was annotated and what was found in them.
type Images = Vec<(Original, Regions)>;

fn batch(originals: &[(Original, Regions)]) -> (Batch, Prediction) {
    let normalization = Normalization::identity(3);
    let ids = originals.iter().map(|(original, _)| format!("{:?}", original.image_id)).collect();
    let mut batch =
        Batch::new(Vec::new(), (0, 0), normalization, vec![Target::default(); originals.len()], ids);
    batch.originals = originals.iter().map(|(original, _)| original.clone()).collect();
    (batch, Prediction::Instances(originals.iter().map(|(_, found)| found.clone()).collect()))
}

fn meter(
    evaluator: &CocoAp,
    classes: &[String],
    images: &[(Original, Regions)],
    size: usize,
) -> Box<dyn Meter> {
    let mut meter = evaluator.meter(classes);
    for images in images.chunks(size) {
        let (batch, found) = batch(images);
        meter.update(Measured::Predictions(&[&found]), &batch).unwrap();
    }
    meter
}

fn boxes() -> CocoAp {
    CocoAp { types: vec![IouType::Bbox], ..CocoAp::default() }
}

/// The images, and the names of the classes, of a golden.
fn golden(case: &Value) -> (Images, Vec<String>) {
    let truth = &case["ground_truth"];
    let mut categories: Vec<u64> = truth["categories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|category| category["id"].as_u64().unwrap())
        .collect();
    categories.sort_unstable();
    let class = |of: &Value| {
        categories.iter().position(|&id| id == of["category_id"].as_u64().unwrap()).unwrap() as u32
    };
    let bbox = |of: &Value| {
        let [x, y, w, h]: [f64; 4] = serde_json::from_value(of["bbox"].clone()).unwrap();
        [x, y, x + w, y + h].map(|side| side as f32)
    };
    let mut images = BTreeMap::new();
    for image in truth["images"].as_array().unwrap() {
        let size = ["height", "width"].map(|side| image[side].as_u64().unwrap() as usize);
        images.insert(image["id"].as_u64().unwrap(), (size, Instances::default(), Regions::default()));
    }
    for object in truth["annotations"].as_array().unwrap() {
        let (_, objects, _) = images.get_mut(&object["image_id"].as_u64().unwrap()).unwrap();
        objects.boxes.push(bbox(object));
        objects.classes.push(class(object));
        objects.crowd.push(object["iscrowd"] == 1);
        objects.areas.push(object["area"].as_f64().unwrap());
    }
    for detection in case["detections"].as_array().unwrap() {
        let (_, _, found) = images.get_mut(&detection["image_id"].as_u64().unwrap()).unwrap();
        found.boxes.push(bbox(detection));
        found.classes.push(class(detection));
        found.scores.push(detection["score"].as_f64().unwrap() as f32);
    }
    let original = |(id, (size, objects, found))| {
        (Original { size, instances: Arc::new(objects), image_id: Some(id) }, found)
    };
    let names = categories.iter().map(|id| format!("c{id}")).collect();
    (images.into_iter().map(original).collect(), names)
}

fn read(name: &str) -> Value {
    let path = format!("{}/../tests/data/detection/coco/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn assert_stats(found: &[(String, f64)], stats: &Value, tolerance: f64, case: &str) {
    let stats: Vec<f64> = serde_json::from_value(stats.clone()).unwrap();
    let stats: Vec<f64> = stats.into_iter().filter(|&value| value > -1.0).collect();
    assert_eq!(found.len(), stats.len(), "{case}: {found:?}");
    for ((name, value), expected) in found.iter().zip(stats) {
        assert!((value / 100.0 - expected).abs() <= tolerance, "{case}: {name} is {value}, not {expected}");
    }
}

#[test]
fn figures_of_batches_are_those_of_pycocotools() {
    let golden = read("coco_eval.json");
    let (images, classes) = self::golden(&golden);
    let found = meter(&boxes(), &classes, &images, 7).finish();
    let names =
        ["box_ap", "box_ap50", "box_ap75", "box_ap_small", "box_ap_medium", "box_ap_large", "box_ar1"];
    assert!(found.iter().map(|(name, _)| name).zip(names).all(|(found, name)| found == name), "{found:?}");
    assert_stats(&found, &golden["expected"]["bbox"]["stats"], 1e-6, "coco_eval");
}

#[test]
fn every_rule_is_that_of_pycocotools() {
    let golden = read("eval_cases.json");
    for (name, case) in golden["cases"].as_object().unwrap() {
        let truth = match name.as_str() {
            // pycocotools loses the annotation with the id 0; here annotations have no ids.
            "annotation_id_zero" => &golden["cases"]["annotation_id_zero_shifted"],
            _ => case,
        };
        let (images, classes) = self::golden(case);
        assert_stats(&meter(&boxes(), &classes, &images, 2).finish(), &truth["bbox"]["stats"], 1e-9, name);
        if let Some(expected) = truth.get("bbox_class_agnostic") {
            let evaluator = CocoAp { class_agnostic: true, ..boxes() };
            assert_stats(&meter(&evaluator, &classes, &images, 2).finish(), &expected["stats"], 1e-9, name);
        }
    }
}

/// Two classes, and squares in images of 16 x 16; what was found lies beside them.
fn squares(corners: &[(u8, u8, u8)]) -> Images {
    let square = |x: u8, y: u8, side: u8| [x, y, x + side, y + side].map(f32::from);
    let image = |(number, &(x, y, off)): (usize, &(u8, u8, u8))| {
        let (class, bbox) = (u32::from(x % 2), square(x, y, 6));
        let [x0, y0, x1, y1] = bbox.map(f64::from);
        let mut objects = Instances::default();
        objects.annotate(class, bbox, Mask::Polygons(vec![vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]]]));
        let runs = Rle::encode(&GrayImage::from_fn(16, 16, |x, y| Luma([u8::from(x + y < 9)])));
        objects.annotate(1 - class, [0.0, 0.0, 9.0, 9.0], Mask::Rle(runs));
        let found = Regions {
            boxes: vec![square(x + off, y, 6), square(0, 0, 9)],
            scores: vec![f32::from(off) / 8.0, 0.3],
            classes: vec![class, 1 - class],
            masks: vec![
                RoiMask(vec![0.9, 0.8, 0.7, f32::from(off) / 5.0]),
                RoiMask(vec![0.9, 0.6, 0.6, 0.1]),
            ],
            ..Regions::default()
        };
        let image_id = Some(10 * number as u64);
        (Original { size: [16, 16], instances: Arc::new(objects), image_id }, found)
    };
    corners.iter().enumerate().map(image).collect()
}

fn two_classes() -> Vec<String> {
    vec!["even".to_owned(), "odd".to_owned()]
}

/// The annotation file of [`squares`], whose categories have the numbers 4 and 9.
fn annotations(images: &Images) -> Value {
    let image = |(original, _): &(Original, Regions)| json!({ "id": original.image_id, "height": original.size[0], "width": original.size[1] });
    let objects = |(original, _): &(Original, Regions)| {
        let objects = Arc::clone(&original.instances);
        let image_id = original.image_id;
        let object = move |at: usize| {
            let [x0, y0, x1, y1] = objects.boxes[at];
            let mask = match &objects.masks[at] {
                Mask::Polygons(polygons) => json!([polygons[0].as_flattened()]),
                Mask::Rle(runs) => json!({ "size": runs.size(), "counts": runs.counts() }),
            };
            json!({
                "image_id": image_id, "category_id": ([4, 9][objects.classes[at] as usize]), "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": mask,
            })
        };
        (0..original.instances.len()).map(object).collect::<Vec<_>>()
    };
    let mut objects: Vec<_> = images.iter().flat_map(objects).collect();
    objects.iter_mut().zip(1..).for_each(|(object, id)| object["id"] = json!(id));
    json!({
        "images": images.iter().map(image).collect::<Vec<_>>(),
        "annotations": objects,
        "categories": [{ "id": 4, "name": "even" }, { "id": 9, "name": "odd" }],
    })
}

#[test]
fn the_results_file_has_the_figures_of_the_meter() {
    let images = squares(&[(1, 2, 0), (4, 7, 1), (3, 3, 2), (8, 1, 3), (5, 5, 4)]);
    let folder = tempfile::tempdir().unwrap();
    let [results, truth] = ["results.json", "annotations.json"].map(|name| folder.path().join(name));
    std::fs::write(&truth, annotations(&images).to_string()).unwrap();
    let mut file = ResultsFile::create(&results, Some(&[4, 9])).unwrap();
    for images in images.chunks(2) {
        let (batch, Prediction::Instances(found)) = batch(images) else { panic!("objects are predicted") };
        file.add(&batch, &found).unwrap();
    }
    assert_eq!(file.finish().unwrap(), 10);
    let evaluator = CocoAp { per_class: true, ..CocoAp::default() };
    let metrics = meter(&evaluator, &two_classes(), &images, 2).finish();
    assert!(metrics.iter().any(|(name, value)| name == "mask_ap.odd" && *value > 0.0), "{metrics:?}");
    let report = evaluate_files(&results, &truth, &[], false).unwrap();
    let of_files: Vec<_> = report.summaries.iter().flat_map(|summary| summary.metrics(true)).collect();
    assert_eq!(of_files, metrics);
    let first: Value =
        serde_json::from_slice::<Vec<Value>>(&std::fs::read(&results).unwrap()).unwrap().remove(0);
    assert_eq!(first["bbox"], json!([1.0, 2.0, 6.0, 6.0]));
    assert_eq!((&first["image_id"], &first["category_id"]), (&json!(0), &json!(9)));
    // Columns 1 to 6, of which the first four are covered down to row 7, and the last two not below row 4 or 5.
    assert_eq!(first["segmentation"]["size"], json!([16, 16]));
}

#[test]
fn heads_without_masks_are_measured_by_boxes() {
    let mut images = squares(&[(1, 2, 0), (4, 7, 1), (3, 3, 2)]);
    images[2].1.masks.clear();
    let names = |images: &[_], size| {
        let metrics = meter(&CocoAp::default(), &two_classes(), images, size).finish();
        metrics.iter().filter(|(name, _)| name.starts_with("mask")).count()
    };
    assert_eq!((names(&images[..2], 1), names(&images, 1), names(&images, 3)), (8, 0, 0));
}

#[test]
fn an_image_that_comes_twice_counts_once() {
    let images = squares(&[(1, 2, 0), (4, 7, 1), (3, 3, 2)]);
    let twice = [&images[..], &images[1..2]].concat();
    let of = |images: &[_], size| meter(&CocoAp::default(), &two_classes(), images, size).finish();
    assert_eq!((of(&twice, 4), of(&twice, 2)), (of(&images, 3), of(&images, 3)));
}

#[test]
fn what_there_is_nothing_to_measure_for_is_left_out() {
    assert!(CocoAp::default().meter(&two_classes()).finish().is_empty());
    let names: Vec<_> = meter(&boxes(), &two_classes(), &squares(&[(1, 1, 0)]), 1).finish();
    let names: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
    let small = [
        "box_ap",
        "box_ap50",
        "box_ap75",
        "box_ap_small",
        "box_ar1",
        "box_ar10",
        "box_ar100",
        "box_ar_small",
    ];
    assert_eq!(names, small);
}

#[test]
fn what_cannot_be_measured_is_an_error_that_names_the_image() {
    let images = squares(&[(1, 2, 0)]);
    let error = |evaluator: &CocoAp, classes: &[String], change: fn(&mut (Original, Regions))| {
        let mut image = images[0].clone();
        change(&mut image);
        let (batch, found) = batch(&[image]);
        evaluator.meter(classes).update(Measured::Predictions(&[&found]), &batch).unwrap_err().to_string()
    };
    let all = CocoAp::default();
    let no_number = error(&all, &two_classes(), |(original, _)| original.image_id = None);
    assert_eq!(no_number, "None: what is predicted cannot be measured: it has no number (`image_id`)");
    let no_mask = error(&all, &two_classes(), |(original, _)| {
        let mut objects = Instances::clone(&original.instances);
        objects.masks.clear();
        original.instances = Arc::new(objects);
    });
    assert!(no_mask.starts_with("Some(0): the image has no mask for every object"), "{no_mask}");
    let no_class = error(&all, &two_classes(), |(_, found)| found.classes.clear());
    assert!(no_class.contains("objects without classes"), "{no_class}");
    let unknown = error(&all, &two_classes()[..1], |_| ());
    assert!(unknown.contains("the dataset names 1 classes, but objects are of class [1]"), "{unknown}");
    let no_score = error(&all, &two_classes(), |(_, found)| found.scores[0] = f32::NAN);
    assert!(no_score.contains("NaN score"), "{no_score}");
    let not_needed = all.meter(&[]).update(Measured::Losses(&[]), &batch(&images).0);
    assert_eq!(not_needed, Err(MeterError::NotNeeded));
}

#[test]
fn proposals_without_classes_are_measured_together() {
    let mut images = squares(&[(1, 2, 0), (4, 7, 1)]);
    images.iter_mut().for_each(|(_, found)| found.classes.clear());
    let evaluator = CocoAp { class_agnostic: true, ..boxes() };
    let metrics = meter(&evaluator, &[], &images, 1).finish();
    assert_eq!(metrics[0].0, "box_ap");
    assert!(metrics[0].1 > 50.0, "{metrics:?}");
}

proptest! {
    #[test]
    fn batches_their_order_and_processes_change_nothing(
        corners in prop::collection::vec((0_u8..9, 0_u8..9, 0_u8..4), 1..12),
        size in 1_usize..5,
        at in 0_usize..12,
        is_reversed: bool,
    ) {
        let evaluator = CocoAp { per_class: true, ..CocoAp::default() };
        let mut images = squares(&corners);
        let whole = meter(&evaluator, &two_classes(), &images, images.len()).finish();
        prop_assert!(!whole.is_empty());
        if is_reversed {
            images.reverse();
        }
        prop_assert_eq!(&meter(&evaluator, &two_classes(), &images, size).finish(), &whole);
        let (first, second) = images.split_at(at.min(images.len()));
        let mut merged = meter(&evaluator, &two_classes(), first, size);
        merged.merge(&meter(&evaluator, &two_classes(), second, size).state()).unwrap();
        prop_assert_eq!(&merged.finish(), &whole);
    }
}
