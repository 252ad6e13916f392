#![allow(clippy::unwrap_used)]

use std::path::Path;

use convmae_framework::component::TaskKind;
use convmae_framework::data::{read_labels, read_rgb};
use image::{GrayImage, ImageFormat, Luma, RgbImage};

use super::*;

/// `ADEChallengeData2016` with a training image for each label map. It is a PNG by any name.
fn root(labels: &[(&str, GrayImage)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (kind, split) in [("images", "training"), ("annotations", "training"), ("images", "validation")] {
        std::fs::create_dir_all(root.path().join(kind).join(split)).unwrap();
    }
    for (name, map) in labels {
        let image = RgbImage::new(map.width(), map.height());
        let path = |folder: &str, extension: &str| root.path().join(format!("{folder}/{name}.{extension}"));
        image.save_with_format(path("images/training", "jpg"), ImageFormat::Png).unwrap();
        map.save_with_format(path("annotations/training", "png"), ImageFormat::Png).unwrap();
    }
    root
}

fn open(root: &Path, split: &str, reduce: bool) -> Result<Box<dyn Samples>, String> {
    let json =
        serde_json::json!({ "type": "Ade20k", "root": root, "split": split, "reduce_zero_label": reduce });
    let dataset: Box<dyn Dataset> = serde_json::from_value(json).unwrap();
    dataset.open().map_err(|error| error.to_string().replace(root.to_str().unwrap(), "ROOT"))
}

/// The labels of a file with these values.
fn labels(values: &GrayImage, reduce: bool) -> Result<Vec<u8>, String> {
    let root = root(&[("a", values.clone())]);
    let sample = open(root.path(), "training", reduce)?.get(0);
    let message = |error: DataError| error.to_string().replace(root.path().to_str().unwrap(), "ROOT");
    Ok(sample.map_err(message)?.target.semantic.unwrap().into_raw())
}

#[test]
fn labels_are_reduced_as_by_mmsegmentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/data_pipeline.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let table: Vec<u8> = serde_json::from_value(json["reduce_zero_label_table"].clone()).unwrap();
    for (value, label) in (0..=255).zip(table) {
        let found = |reduce| labels(&GrayImage::from_pixel(1, 1, Luma([value])), reduce).ok();
        let valid = value <= 150 || value == 255;
        assert_eq!(found(true), valid.then(|| vec![label]), "{value}");
        assert_eq!(found(false), (value < 150 || value == 255).then(|| vec![value]), "{value}");
    }
}

#[test]
fn files_are_read_as_by_mmsegmentation() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation"));
    let bytes = std::fs::read(folder.join("data_pipeline.safetensors")).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (bgr, _) = golden.tensor("load.image_bgr").unwrap().data().as_chunks::<3>();
    let rgb: Vec<u8> = bgr.iter().flat_map(|&[b, g, r]| [r, g, b]).collect();
    assert!(read_rgb(&folder.join("load_image.png")).unwrap().as_raw() == &rgb);
    // The file has values beyond ADE20K's classes, too, which mmsegmentation lets pass.
    let mut values = read_labels(&folder.join("load_label.png")).unwrap().into_luma8();
    let expected = golden.tensor("load.label").unwrap().data();
    assert_eq!(values.as_raw().len(), expected.len());
    values.pixels_mut().filter(|value| (151..255).contains(&value.0[0])).for_each(|value| value.0 = [255]);
    let found = labels(&values, true).unwrap();
    let valid = |(found, expected): (&u8, &u8)| found == expected || *found == 255 && *expected >= 150;
    assert!(found.iter().zip(expected).all(valid));
    assert!(found.iter().any(|label| *label != 255));
}

#[test]
fn the_classes_are_the_150_of_the_challenge() {
    let root = root(&[("b", GrayImage::new(1, 1)), ("a", GrayImage::new(1, 1))]);
    let samples = open(root.path(), "training", true).unwrap();
    assert_eq!(samples.len(), 2);
    assert!(samples.get(0).unwrap().id.ends_with("images/training/a.jpg"));
    let classes = samples.classes(TaskKind::Segment).unwrap();
    assert_eq!((classes.len(), &*classes[0], &*classes[149]), (150, "wall", "flag"));
    let distinct: std::collections::HashSet<_> = classes.iter().collect();
    assert!(samples.classes(TaskKind::Classify).is_none());
    assert!(distinct.len() == 150 && classes.iter().all(|class| class.trim() == class));
}

#[test]
fn a_value_beyond_the_classes_tells_those_that_are_valid() {
    let map = GrayImage::from_pixel(1, 1, Luma([151]));
    let expected =
        "ROOT/annotations/training/a.png: the label at x 0, y 0 is 151, none of the 150 classes; valid are";
    assert_eq!(labels(&map, true).unwrap_err(), format!("{expected} 0 (none), 1 to 150, or 255"));
    assert_eq!(labels(&map, false).unwrap_err(), format!("{expected} 0 to 149, or 255"));
}

#[test]
fn a_missing_folder_tells_what_is_there() {
    let root = root(&[("a", GrayImage::new(1, 1))]);
    let expected = "`root` is the folder `ADEChallengeData2016`, with `images` and `annotations`";
    assert_eq!(
        open(root.path(), "validation", true).err().unwrap(),
        format!("ROOT/annotations/validation: no such folder; `ROOT/annotations` holds training; {expected}")
    );
    assert_eq!(
        open(&root.path().join("images"), "training", true).err().unwrap(),
        format!("ROOT/images/training: no such folder; `ROOT` holds training, validation; {expected}")
    );
}
