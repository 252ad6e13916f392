#![allow(clippy::unwrap_used)]

use image::{DynamicImage, ImageFormat, Luma, RgbImage};

use super::*;

/// `ADEChallengeData2016` with a training image of 4 x 6 for each label map. It is a PNG by any name.
fn root(labels: &[(&str, GrayImage)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (kind, split) in [("images", "training"), ("annotations", "training"), ("images", "validation")] {
        std::fs::create_dir_all(root.path().join(kind).join(split)).unwrap();
    }
    for (name, map) in labels {
        write(root.path(), &format!("images/training/{name}.jpg"), RgbImage::new(6, 4));
        write(root.path(), &format!("annotations/training/{name}.png"), map.clone());
    }
    root
}

fn write(root: &Path, name: &str, image: impl Into<DynamicImage>) {
    image.into().save_with_format(root.join(name), ImageFormat::Png).unwrap();
}

fn map(value: u8) -> GrayImage {
    GrayImage::from_pixel(6, 4, Luma([value]))
}

fn open(root: &Path, split: &str, reduce: bool) -> Result<Box<dyn Samples>, String> {
    let json =
        serde_json::json!({ "type": "Ade20k", "root": root, "split": split, "reduce_zero_label": reduce });
    let dataset: Box<dyn Dataset> = serde_json::from_value(json).unwrap();
    dataset.open().map_err(|error| message(root, &error))
}

fn message(root: &Path, error: &DataError) -> String {
    error.to_string().replace(root.to_str().unwrap(), "ROOT")
}

fn get(root: &Path, reduce: bool) -> Result<GrayImage, String> {
    let sample = open(root, "training", reduce)?.get(0).map_err(|error| {
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        message(root, &error)
    });
    sample.map(|sample| sample.target.semantic.unwrap())
}

#[test]
fn labels_are_reduced_as_by_mmsegmentation() {
    let spec = |reduce| Ade20k { root: "".into(), split: Ade20kSplit::Training, reduce_zero_label: reduce };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/data_pipeline.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let table: Vec<u8> = serde_json::from_value(json["reduce_zero_label_table"].clone()).unwrap();
    for (value, label) in (0..=255).zip(table) {
        let valid = value <= 150 || value == 255;
        assert_eq!(spec(true).label(value), valid.then_some(label), "{value}");
        assert_eq!(spec(false).label(value), (value < 150 || value == 255).then_some(value), "{value}");
    }
}

#[test]
fn files_are_read_as_by_mmsegmentation() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation"));
    let bytes = std::fs::read(folder.join("data_pipeline.safetensors")).unwrap();
    let golden = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (bgr, _) = golden.tensor("load.image_bgr").unwrap().data().as_chunks::<3>();
    let rgb: Vec<u8> = bgr.iter().flat_map(|&[b, g, r]| [r, g, b]).collect();
    assert!(read_image(&folder.join("load_image.png")).unwrap().as_raw() == &rgb);
    // The file has values beyond ADE20K's classes, too, which mmsegmentation lets pass.
    let spec = Ade20k { root: "".into(), split: Ade20kSplit::Training, reduce_zero_label: true };
    let values = read_labels(&folder.join("load_label.png")).unwrap();
    let labels = golden.tensor("load.label").unwrap().data();
    assert_eq!(values.as_raw().len(), labels.len());
    for (value, expected) in values.as_raw().iter().zip(labels) {
        assert!(spec.label(*value).is_none_or(|label| label == *expected), "{value}");
    }
}

#[test]
fn images_are_sorted_and_classes_named() {
    let root = root(&[("b", map(1)), ("a", map(150)), (".c", map(1))]);
    std::fs::write(root.path().join("images/training/notes.txt"), "").unwrap();
    let samples = open(root.path(), "training", true).unwrap();
    assert_eq!(samples.len(), 2);
    assert!(samples.get(0).unwrap().id.ends_with("images/training/a.jpg"));
    assert_eq!(get(root.path(), true).unwrap(), map(149));
    let classes = samples.classes(TaskKind::Segment).unwrap();
    assert_eq!((classes.len(), &*classes[0], &*classes[149]), (150, "wall", "flag"));
    let distinct: HashSet<_> = classes.iter().collect();
    assert!(samples.classes(TaskKind::Classify).is_none());
    assert!(distinct.len() == 150 && classes.iter().all(|class| class.trim() == class));
}

#[test]
fn a_value_beyond_the_classes_is_named_with_its_place() {
    let mut labels = map(3);
    labels.put_pixel(5, 2, Luma([151]));
    let root = root(&[("a", labels)]);
    let expected =
        "ROOT/annotations/training/a.png: the label at x 5, y 2 is 151, beyond the 150 classes; valid are";
    assert_eq!(get(root.path(), true).unwrap_err(), format!("{expected} 0 (none), 1 to 150, or 255"));
    assert_eq!(get(root.path(), false).unwrap_err(), format!("{expected} 0 to 149, or 255"));
}

#[test]
fn an_image_and_a_label_map_of_different_size_are_told_with_both() {
    let root = root(&[("a", GrayImage::new(5, 4))]);
    assert_eq!(
        get(root.path(), true).unwrap_err(),
        "ROOT/annotations/training/a.png: the label map is 4 x 5, but its image `ROOT/images/training/a.jpg` is 4 x 6"
    );
}

#[test]
fn a_missing_label_map_is_named() {
    let root = root(&[("a", map(1)), ("b", map(1)), ("c", map(1))]);
    std::fs::remove_file(root.path().join("annotations/training/b.png")).unwrap();
    assert_eq!(
        get(root.path(), true).unwrap_err(),
        "ROOT/annotations/training/b.png: no such label map, but there is the image `ROOT/images/training/b.jpg`; 1 of 3 \
         images have none"
    );
}

#[test]
fn a_missing_folder_tells_what_is_there() {
    let root = root(&[("a", map(1))]);
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

#[test]
fn a_folder_without_images_tells_what_is_there() {
    let root = root(&[]);
    assert_eq!(
        get(root.path(), true).unwrap_err(),
        "ROOT/images/training: no image (*.jpg) in it; `ROOT/images/training` is empty"
    );
    std::fs::write(root.path().join("images/training/a.jpeg"), "").unwrap();
    assert!(get(root.path(), true).unwrap_err().ends_with("in it; `ROOT/images/training` holds a.jpeg"));
}
