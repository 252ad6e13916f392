#![allow(clippy::unwrap_used)]

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;

/// A folder with images of 3 x 2 pixels.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(folder.0.path().join("images")).unwrap();
        std::fs::create_dir_all(folder.0.path().join("labels")).unwrap();
        folder
    }

    fn write(&self, name: &str, image: impl Into<DynamicImage>) -> &Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A PNG by any name but those of the formats that hold values.
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("tif") => ImageFormat::Tiff,
            Some("bmp") => ImageFormat::Bmp,
            _ => ImageFormat::Png,
        };
        image.into().save_with_format(path, format).unwrap();
        self
    }

    fn image(&self, name: &str) -> &Self {
        self.write(name, RgbImage::new(3, 2))
    }

    /// An image and its label map of one value.
    fn pair(&self, image: &str, label: &str) -> &Self {
        self.image(image).write(label, GrayImage::from_pixel(3, 2, Luma([1])))
    }

    fn open(&self, more: Value) -> Result<Box<dyn Samples>, String> {
        let root = self.0.path();
        let mut json = json!({
            "type": "SegmentationFolder",
            "images": root.join("images"),
            "labels": root.join("labels"),
            "classes": ["background", "vessel"],
        });
        let Value::Object(more) = more else { panic!("no options") };
        json.as_object_mut().unwrap().extend(more);
        let dataset: Box<dyn Dataset> = serde_json::from_value(json).unwrap();
        dataset.open().map_err(|error| self.message(&error))
    }

    fn message(&self, error: &DataError) -> String {
        error.to_string().replace(self.0.path().to_str().unwrap(), "ROOT")
    }

    /// The labels of the first image.
    fn labels(&self, more: Value) -> Result<Vec<u8>, String> {
        let sample = self.open(more)?.get(0).map_err(|error| {
            assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
            self.message(&error)
        })?;
        Ok(sample.target.semantic.unwrap().into_raw())
    }
}

/// Labels of a file with these values.
fn labels(values: [u8; 6], more: Value) -> Result<Vec<u8>, String> {
    let map = GrayImage::from_raw(3, 2, values.to_vec()).unwrap();
    Folder::new().image("images/a.png").write("labels/a.png", map).labels(more)
}

#[test]
fn images_and_label_maps_of_any_known_extension_belong_together_by_name() {
    let folder = Folder::new();
    folder.pair("images/b.JPG", "labels/b.png").pair("images/a.tif", "labels/a.PNG");
    folder.pair("images/sub/c.v2.webp", "labels/sub/c.v2.tif").pair("images/d.png", "labels/d.bmp");
    std::fs::write(folder.0.path().join("images/notes.txt"), "").unwrap();
    std::fs::write(folder.0.path().join("labels/Thumbs.db"), "").unwrap();
    let samples = folder.open(json!({})).unwrap();
    let names: Vec<_> = (0..samples.len())
        .map(|index| {
            let sample = samples.get(index).unwrap();
            assert_eq!(sample.target.semantic.unwrap().as_raw()[..], [1; 6]);
            Path::new(&sample.id).strip_prefix(folder.0.path()).unwrap().display().to_string()
        })
        .collect();
    assert_eq!(names, ["images/a.tif", "images/b.JPG", "images/d.png", "images/sub/c.v2.webp"]);
    assert_eq!(samples.classes(TaskKind::Segment).unwrap(), ["background", "vessel"]);
    assert!(samples.classes(TaskKind::Classify).is_none());
    assert_eq!(samples.passed_over().to_string(), "1 .db, 1 .txt");
    assert!(samples.warnings().is_empty());
}

#[test]
fn suffixes_tell_images_and_label_maps_apart_in_one_folder() {
    let folder = Folder::new();
    folder.pair("images/aachen/a_leftImg8bit.png", "images/aachen/a_gtFine_labelTrainIds.png");
    folder.image("images/aachen/a_gtFine_color.png");
    let suffixes = |image: &str, label: &str| {
        let images = folder.0.path().join("images");
        json!({ "labels": images, "image_suffix": image, "label_suffix": label })
    };
    let samples = folder.open(suffixes("_leftImg8bit.png", "_gtFine_labelTrainIds.png")).unwrap();
    assert_eq!((samples.len(), samples.passed_over().to_string()), (1, "1 .png".to_owned()));
    assert_eq!(samples.get(0).unwrap().target.semantic.unwrap().as_raw()[..], [1; 6]);
    assert_eq!(
        folder.open(suffixes("_leftImg8bit.jpg", "_mask.png")).err().unwrap(),
        "ROOT/images: no image (*_leftImg8bit.jpg) in it; `ROOT/images` holds aachen"
    );
}

#[test]
fn label_maps_below_the_folder_of_images_are_no_images() {
    let folder = Folder::new();
    folder.pair("images/a.png", "images/masks/a.png");
    let samples = folder.open(json!({ "labels": folder.0.path().join("images/masks") })).unwrap();
    assert_eq!(samples.len(), 1);
}

#[test]
fn composed_and_decomposed_names_belong_together() {
    let folder = Folder::new();
    folder.pair("images/\u{c9}.png", "labels/E\u{301}.png");
    assert_eq!(folder.labels(json!({})).unwrap(), [1; 6]);
}

#[test]
fn a_missing_label_map_is_named_and_a_superfluous_one_too() {
    let folder = Folder::new();
    folder.pair("images/a.jpg", "labels/a.png").pair("images/c.jpg", "labels/c.png").image("images/b.jpg");
    assert_eq!(
        folder.open(json!({})).err().unwrap(),
        "ROOT/labels/b.png: no such label map, but there is the image `ROOT/images/b.jpg`; 1 of 3 images have none"
    );
    let other = folder.open(json!({ "label_suffix": "_mask.png" })).err().unwrap();
    assert!(other.ends_with("3 of 3 images have none; `ROOT/labels` holds a.png, c.png"), "{other}");
    std::fs::remove_file(folder.0.path().join("images/b.jpg")).unwrap();
    std::fs::remove_file(folder.0.path().join("images/c.jpg")).unwrap();
    let [warning] = &folder.open(json!({})).unwrap().warnings()[..] else { panic!("no warning") };
    assert!(warning.starts_with("label maps without an image: 1, such as `"), "{warning}");
    assert!(warning.ends_with("labels/c.png`"), "{warning}");
}

#[test]
fn two_images_of_one_name_are_refused() {
    let folder = Folder::new();
    folder.pair("images/a.jpg", "labels/a.png").image("images/a.png");
    assert_eq!(
        folder.open(json!({})).err().unwrap(),
        "ROOT/images/a.png: of the same name as `ROOT/images/a.jpg`: say by `image_suffix` which of them is meant"
    );
    assert_eq!(folder.open(json!({ "image_suffix": ".jpg" })).unwrap().len(), 1);
}

#[test]
fn folders_that_are_missing_or_empty_tell_what_is_there() {
    let folder = Folder::new();
    let empty = folder.open(json!({})).err().unwrap();
    assert!(
        empty.starts_with("ROOT/images: no image (jpg, jpeg, png, webp, tif, tiff, bmp) in it"),
        "{empty}"
    );
    let missing = folder.open(json!({ "labels": folder.0.path().join("masks") })).err().unwrap();
    assert_eq!(missing, "ROOT/masks: no such folder; `ROOT` holds images, labels");
}

#[test]
fn values_are_classes_and_255_is_ignored() {
    assert_eq!(labels([0, 1, 255, 1, 0, 0], json!({})).unwrap(), [0, 1, 255, 1, 0, 0]);
    assert_eq!(
        labels([0, 1, 255, 1, 0, 2], json!({})).unwrap_err(),
        "ROOT/labels/a.png: the label at x 2, y 1 is 2, none of the 2 classes; valid are 0 to 1, or 255"
    );
    assert_eq!(labels([0, 1, 254, 9, 0, 0], json!({ "ignore": [254, 9] })).unwrap(), [0, 1, 255, 255, 0, 0]);
    let reduced = json!({ "reduce_zero_label": true });
    assert_eq!(labels([0, 1, 255, 2, 0, 2], reduced.clone()).unwrap(), [255, 0, 255, 1, 255, 1]);
    assert!(labels([3; 6], reduced).unwrap_err().ends_with("valid are 0 (none), 1 to 2, or 255"));
}

#[test]
fn values_may_be_listed_class_by_class() {
    assert_eq!(labels([0, 255, 0, 255, 0, 0], json!({ "values": [0, 255] })).unwrap(), [0, 1, 0, 1, 0, 0]);
    let message = labels([7; 6], json!({ "values": [0, 255] })).unwrap_err();
    assert!(message.ends_with("is 7, none of the 2 classes; valid are 0, 255"), "{message}");
    let message = labels([9; 6], json!({ "values": [7, 8], "ignore": [1] })).unwrap_err();
    assert!(message.ends_with("valid are 7, 8, or 1, 255"), "{message}");
}

#[test]
fn values_of_16_bits_are_classes_or_named_with_their_place() {
    let map = |value: u16| {
        let folder = Folder::new();
        let map = ImageBuffer::from_fn(3, 2, |x, _| Luma([if x == 1 { value } else { 0 }]));
        folder.image("images/a.png").write("labels/a.png", map);
        folder
    };
    assert_eq!(map(1).labels(json!({})).unwrap(), [0, 1, 0, 0, 1, 0]);
    assert_eq!(map(65535).labels(json!({ "ignore": [65535] })).unwrap(), [0, 255, 0, 0, 255, 0]);
    assert_eq!(
        map(256).labels(json!({})).unwrap_err(),
        "ROOT/labels/a.png: the label at x 1, y 0 is 256, none of the 2 classes; valid are 0 to 1, or 255"
    );
}

#[test]
fn colours_are_told_by_the_palette() {
    let folder = Folder::new();
    let map = RgbImage::from_fn(3, 2, |x, _| Rgb([[0, 0, 0], [128, 0, 0], [9, 9, 9]][x as usize]));
    folder.image("images/a.png").write("labels/a.png", map);
    let palette = json!({ "palette": [[0, 0, 0], [128, 0, 0], [9, 9, 9]] });
    assert_eq!(folder.labels(palette).unwrap(), [0, 1, 255, 0, 1, 255]);
    assert_eq!(
        folder.labels(json!({ "palette": [[0, 0, 0], [128, 0, 0]] })).unwrap_err(),
        "ROOT/labels/a.png: the colour at x 2, y 0 is [9, 9, 9], none of the `palette`"
    );
    assert_eq!(
        folder.labels(json!({})).unwrap_err(),
        "ROOT/labels/a.png: a label map in colours (RGB): `palette` has to tell the colour of each class"
    );
}

#[test]
fn an_image_and_a_label_map_of_different_size_are_told_with_both() {
    let folder = Folder::new();
    folder.image("images/a.png").write("labels/a.png", GrayImage::new(5, 4));
    assert_eq!(
        folder.labels(json!({})).unwrap_err(),
        "ROOT/labels/a.png: the label map is 4 x 5, but its image `ROOT/images/a.png` is 2 x 3"
    );
}

#[test]
fn classes_values_and_colours_have_to_be_as_many() {
    let refused = |more| labels([0; 6], more).unwrap_err();
    assert_eq!(refused(json!({ "classes": 256 })), "classes: 256 classes; at most 255 are told apart");
    assert_eq!(refused(json!({ "values": [0] })), "values: 1 values for 2 classes");
    assert_eq!(refused(json!({ "palette": [[0, 0, 0]] })), "palette: 1 colours for 2 classes");
    assert_eq!(
        refused(json!({ "values": [0, 1], "reduce_zero_label": true })),
        "values: excludes `reduce_zero_label`: it tells the class of 0"
    );
}
