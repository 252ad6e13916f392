#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use convmae_framework::data::{Instances, Mask};
use image::RgbImage;
use serde_json::{Value, json};

use super::annotations::Unused;
use super::*;

/// A folder with `images/1.png` and `images/2.png` of 4 x 6 and an annotation file.
fn root(annotations: &(impl ToString + ?Sized)) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("images")).unwrap();
    for name in ["1.png", "2.png"] {
        RgbImage::new(6, 4).save(root.path().join("images").join(name)).unwrap();
    }
    std::fs::write(root.path().join("instances.json"), annotations.to_string()).unwrap();
    root
}

fn image(id: u64) -> Value {
    json!({ "id": id, "file_name": format!("{id}.png"), "height": 4, "width": 6, "license": 3 })
}

/// An object of category 9 in image 1, with other fields.
fn object(id: u64, fields: &Value) -> Value {
    let mut object = json!({
        "id": id, "image_id": 1, "category_id": 9, "iscrowd": 0, "area": 5.5, "bbox": [1, 1, 3, 2],
        "segmentation": [[1, 1, 4, 1, 4, 3]],
    });
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn annotations(objects: &[Value]) -> Value {
    json!({
        "info": { "year": 2017 }, "licenses": [], "images": [image(2), image(1)], "annotations": objects,
        "categories": [
            { "id": 90, "name": "toothbrush", "supercategory": "indoor" }, { "id": 9, "name": "boat" },
        ],
    })
}

fn spec(root: &Path, fields: &Value) -> Box<dyn Dataset> {
    let mut spec = json!({
        "type": "Coco", "annotations": root.join("instances.json"), "images": root.join("images"),
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn message(root: &Path, error: &DataError) -> String {
    error.to_string().replace(root.to_str().unwrap(), "ROOT")
}

/// Samples of a file, or why it is refused.
fn open_with(annotations: &(impl ToString + ?Sized), fields: &Value) -> Result<Vec<Sample>, String> {
    let root = root(annotations);
    let samples = spec(root.path(), fields).open().map_err(|error| {
        assert!(matches!(error, DataError::Invalid { .. }), "{error:?}");
        message(root.path(), &error)
    })?;
    Ok((0..samples.len()).map(|index| samples.get(index).unwrap()).collect())
}

fn open(objects: &[Value]) -> Result<Vec<Sample>, String> {
    open_with(&annotations(objects), &json!({}))
}

fn refused(annotations: &(impl ToString + ?Sized)) -> String {
    let message = open_with(annotations, &json!({})).err().unwrap();
    message.strip_prefix("ROOT/instances.json: ").unwrap().to_owned()
}

fn unused(objects: &[Value]) -> Unused {
    let root = root(&annotations(objects));
    annotations::read(&root.path().join("instances.json"), true).unwrap().unused
}

#[test]
fn classes_are_the_categories_by_number_and_images_are_sorted() {
    let root =
        root(&annotations(&[object(7, &json!({ "category_id": 90, "image_id": 2 })), object(5, &json!({}))]));
    let samples = spec(root.path(), &json!({})).open().unwrap();
    assert_eq!(samples.classes(TaskKind::Detect).unwrap(), ["boat", "toothbrush"]);
    assert_eq!(samples.category_ids(), Some([9, 90].as_slice()));
    assert!(samples.classes(TaskKind::Segment).is_none());
    let read: Vec<_> = (0..samples.len())
        .map(|index| samples.get(index).unwrap())
        .map(|sample| (sample.original.image_id, sample.target.instances.classes))
        .collect();
    assert_eq!(read, [(Some(1), vec![0]), (Some(2), vec![1])]);
    assert!(samples.get(0).unwrap().id.ends_with("images/1.png"));
}

#[test]
fn objects_have_boxes_masks_and_areas() {
    let samples = open(&[object(5, &json!({}))]).unwrap();
    let expected = Instances {
        boxes: vec![[1.0, 1.0, 4.0, 3.0]],
        classes: vec![0],
        masks: vec![Mask::Polygons(vec![vec![[1.0, 1.0], [4.0, 1.0], [4.0, 3.0]]])],
        crowd: vec![false],
        areas: vec![5.5],
    };
    assert_eq!(samples[0].target.instances, expected);
    assert_eq!((samples[0].original.size, &*samples[0].original.instances), ([4, 6], &expected));
    assert!(samples[1].target.instances.is_empty() && samples[1].original.image_id == Some(2));
}

#[test]
fn crowds_are_for_evaluation_only() {
    let crowd = json!({ "iscrowd": 1, "segmentation": { "size": [4, 6], "counts": [0, 24] } });
    let samples = open(&[object(5, &crowd), object(6, &json!({ "area": 2 }))]).unwrap();
    assert_eq!((samples[0].target.instances.len(), &*samples[0].target.instances.areas), (1, &[2.0][..]));
    let original = &samples[0].original.instances;
    assert_eq!(original.crowd, [true, false]);
    assert_eq!(original.masks[0].bounds(), Some([0.0, 0.0, 6.0, 4.0]));
}

#[test]
fn boxes_are_cut_for_training_and_kept_for_evaluation() {
    let boxes = [[-2.0, 1.0, 5.0, 9.0], [7.0, 1.0, 2.0, 2.0], [1.0, 1.0, 0.0, 2.0], [3.0, 3.0, -1.0, 2.0]];
    let objects: Vec<_> =
        boxes.iter().zip(1..).map(|(bbox, id)| object(id, &json!({ "bbox": bbox }))).collect();
    let samples = open(&objects).unwrap();
    assert_eq!(samples[0].target.instances.boxes, [[0.0, 1.0, 3.0, 4.0]]);
    let kept = [[-2.0, 1.0, 3.0, 10.0], [7.0, 1.0, 9.0, 3.0], [1.0, 1.0, 1.0, 3.0], [3.0, 3.0, 2.0, 5.0]];
    assert_eq!(samples[0].original.instances.boxes, kept);
    assert_eq!(unused(&objects), Unused { without_box: 3, ..Unused::default() });
}

#[test]
fn polygons_that_are_none_are_left_out_and_counted() {
    let line = json!([1, 1, 3, 3]);
    let whole = json!([1, 1, 4, 1, 4, 3]);
    let objects = [
        object(1, &json!({ "segmentation": [line, whole] })),
        object(2, &json!({ "segmentation": [line, [1, 1, 4, 1, 4, 3, 2]] })),
        object(3, &json!({ "segmentation": [] })),
    ];
    let samples = open(&objects).unwrap();
    assert_eq!((samples[0].target.instances.len(), samples[0].original.instances.len()), (1, 3));
    assert_eq!(unused(&objects), Unused { polygons: 3, without_mask: 2, ..Unused::default() });
}

#[test]
fn annotations_of_unknown_images_are_left_out_and_counted() {
    let objects = [object(1, &json!({ "image_id": 12, "category_id": 77 })), object(2, &json!({}))];
    assert_eq!(open(&objects).unwrap()[0].original.instances.len(), 1);
    assert_eq!(unused(&objects), Unused { of_unknown_images: 1, ..Unused::default() });
}

#[test]
fn images_without_objects_can_be_left_out() {
    let crowd = json!({ "image_id": 2, "iscrowd": 1, "segmentation": { "size": [4, 6], "counts": [24] } });
    let filter = json!({ "filter_empty": true });
    let ids = |objects: &[Value]| -> Result<Vec<_>, String> {
        let samples = open_with(&annotations(objects), &filter)?;
        Ok(samples.into_iter().map(|sample| sample.original.image_id.unwrap()).collect())
    };
    assert_eq!(ids(&[object(1, &json!({})), object(2, &crowd)]).unwrap(), [1]);
    let none =
        "ROOT/instances.json: no image has an object that is no crowd; `filter_empty: false` keeps them";
    assert_eq!(ids(&[object(2, &crowd)]).unwrap_err(), none);
    assert_eq!(ids(&[]).unwrap_err(), none);
    assert_eq!(open(&[]).unwrap().len(), 2);
}

#[test]
fn masks_are_asked_for_or_passed_over() {
    let unmasked = annotations(&[object(4, &json!({})), object(5, &json!({ "segmentation": null }))]);
    let expected = "annotations[1].segmentation: it is missing; `masks: false` reads boxes only";
    assert_eq!(refused(&unmasked), expected);
    let samples = open_with(&unmasked, &json!({ "masks": false })).unwrap();
    let instances = &samples[0].target.instances;
    assert_eq!((instances.len(), instances.masks.len()), (2, 0));
}

#[test]
fn run_lengths_that_do_not_fit_are_refused_with_their_place() {
    let runs = |size: [u32; 2], counts: Value| {
        refused(&annotations(&[object(5, &json!({ "segmentation": { "size": size, "counts": counts } }))]))
    };
    assert_eq!(
        runs([6, 4], json!([24])),
        "annotations[0].segmentation: run lengths of 6 x 4, but the image is 4 x 6"
    );
    assert_eq!(
        runs([4, 6], json!([3, 3])),
        "annotations[0].segmentation: the runs cover 6 pixels, not the 4 x 6 of the mask"
    );
    assert!(runs([4, 6], json!("~~~")).starts_with("annotations[0].segmentation: "));
    assert!(
        runs([4, 6], json!([25, -1])).contains("expected u32 at line 1 column"),
        "{}",
        runs([4, 6], json!([25, -1]))
    );
}

#[test]
fn a_file_that_contradicts_itself_is_refused_with_both_places() {
    assert_eq!(
        refused(&annotations(&[object(5, &json!({ "category_id": 77 }))])),
        "annotations[0].category_id is 77, which `categories` does not list"
    );
    assert_eq!(
        refused(&annotations(&[object(5, &json!({})), object(6, &json!({})), object(5, &json!({}))])),
        "annotations[0].id and annotations[2].id are both 5"
    );
    let mut doubled = annotations(&[]);
    doubled["images"].as_array_mut().unwrap().push(image(1));
    assert_eq!(refused(&doubled), "images[1].id and images[2].id are both 1");
    let mut doubled = annotations(&[]);
    doubled["categories"][1]["id"] = json!(90);
    assert_eq!(refused(&doubled), "categories[0].id and categories[1].id are both 90");
    let mut empty = annotations(&[]);
    empty["images"] = json!([]);
    assert_eq!(refused(&empty), "`images` lists no image");
}

#[test]
fn a_file_of_another_form_is_refused_with_line_and_column() {
    assert_eq!(refused("{\n  \"images\": [}"), "expected value at line 2 column 14");
    assert_eq!(refused("{}"), "missing field `images` at line 1 column 2");
    assert!(refused("").starts_with("EOF while parsing a value at line 1"));
    for key in ["id", "image_id", "category_id", "bbox", "area"] {
        let mut object = object(5, &json!({}));
        object.as_object_mut().unwrap().remove(key);
        let reason = refused(&annotations(&[object]));
        assert!(reason.starts_with(&format!("missing field `{key}` at line 1 column")), "{reason}");
    }
    let reason = refused(&annotations(&[object(5, &json!({ "bbox": [1, 2, 3] }))]));
    assert!(reason.starts_with("invalid length 3, expected an array of length 4 at line 1"), "{reason}");
    let mut unnamed = annotations(&[]);
    unnamed["categories"][0].as_object_mut().unwrap().remove("name");
    assert!(refused(&unnamed).starts_with("missing field `name` at line 1 column"));
}

#[test]
fn a_missing_file_or_folder_tells_what_is_there() {
    let root = root(&annotations(&[]));
    let missing = |fields: &Value| message(root.path(), &spec(root.path(), fields).open().err().unwrap());
    let file = json!({ "annotations": root.path().join("instances_val.json") });
    assert_eq!(missing(&file), "ROOT/instances_val.json: no such file; `ROOT` holds images, instances.json");
    let folder = json!({ "images": root.path().join("val2017") });
    assert_eq!(missing(&folder), "ROOT/val2017: no such folder; `ROOT` holds images, instances.json");
}

#[test]
fn an_image_that_is_missing_or_of_another_size_is_corrupt() {
    let root = root(&annotations(&[]));
    std::fs::remove_file(root.path().join("images/1.png")).unwrap();
    RgbImage::new(4, 6).save(root.path().join("images/2.png")).unwrap();
    let samples = spec(root.path(), &json!({})).open().unwrap();
    let corrupt = |index: usize| {
        let error = samples.get(index).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        message(root.path(), &error)
    };
    assert!(corrupt(0).starts_with("ROOT/images/1.png: No such file"), "{}", corrupt(0));
    let expected =
        "ROOT/images/2.png: the image is 6 x 4, but `ROOT/instances.json` says 4 x 6; they disagree";
    assert!(corrupt(1).starts_with(expected), "{}", corrupt(1));
}
