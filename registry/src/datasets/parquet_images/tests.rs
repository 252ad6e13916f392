#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::path::PathBuf;

use image::{ImageFormat, Rgb, RgbImage};
use polars::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Two files that `datasets` 5.2 wrote of ten images of 8 x 6, in groups of 2, 2 and 1 rows. Image `k` has the class
/// `k % 3` of cat, dog and fox, and the colour `20 k, k, 255 - 20 k`.
fn hugging_face() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cases/hf_images").into()
}

fn open(files: &Value, keys: &Value) -> Result<Box<dyn Samples>, DataError> {
    let mut json = json!({ "type": "ParquetImages", "files": files });
    json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value::<Box<dyn Dataset>>(json).unwrap().open()
}

fn all() -> Value {
    json!(hugging_face().join("train-*.parquet"))
}

/// A file with one column of images and one of labels.
fn write(folder: &Path, name: &str, images: Vec<Option<Vec<u8>>>, labels: Column) -> Value {
    let images = Column::new("image".into(), images);
    let mut frame = DataFrame::new(images.len(), vec![images, labels]).unwrap();
    let path = folder.join(name);
    ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame).unwrap();
    json!(path)
}

fn png(value: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(4, 4, Rgb([value; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn a_dataset_of_hugging_face_has_its_images_and_classes_over_all_files() {
    let samples = open(&all(), &json!({})).unwrap();
    assert_eq!(samples.len(), 10);
    assert_eq!(samples.classes(TaskKind::Classify).unwrap(), ["cat", "dog", "fox"]);
    for k in 0..10_u8 {
        let index = usize::from(k);
        assert_eq!(samples.class(index), Some(index % 3));
        let sample = samples.get(index).unwrap();
        assert_eq!(sample.pixels.size(), (6, 8));
        assert_eq!(sample.rgb("").unwrap().get_pixel(7, 5).0, [20 * k, k, 255 - 20 * k]);
        assert_eq!(sample.target.class, Some(index % 3));
    }
    assert!(samples.get(7).unwrap().id.ends_with("train-00001-of-00002.parquet#2"));
    assert_eq!(samples.identity(7).unwrap(), "train-00001-of-00002.parquet#2 1");
    let unlabelled = open(&all(), &json!({ "labelled": false })).unwrap();
    assert_eq!((unlabelled.class(1), unlabelled.classes(TaskKind::Classify)), (None, None));
    assert_eq!(unlabelled.get(1).unwrap().target.class, None);
}

#[test]
fn an_epoch_has_every_image_once_group_by_group() {
    let samples = open(&all(), &json!({ "shuffle_buffer": 1 })).unwrap();
    let order = samples.order(3, 0);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..10));
    // Groups of 2, 2, 1, 2, 2 and 1 rows: those of a group stay together.
    let group = |index: &usize| [0, 0, 1, 1, 2, 3, 3, 4, 4, 5][*index];
    let mut groups: Vec<_> = order.iter().map(group).collect();
    groups.dedup();
    assert_eq!(groups.len(), 6, "{order:?}");
    assert_ne!(samples.order(3, 1), order);
    let mixed = open(&all(), &json!({})).unwrap().order(3, 0);
    let mut groups: Vec<_> = mixed.iter().map(group).collect();
    groups.dedup();
    assert!(groups.len() > 6, "{mixed:?}");
}

#[test]
fn threads_that_read_in_any_order_get_the_same_images() {
    let samples = open(&all(), &json!({ "shuffle_buffer": 1 })).unwrap();
    let red = |index: usize| samples.get(index).unwrap().rgb("").unwrap().get_pixel(0, 0).0[0];
    let found: Vec<_> = (0..200_usize).into_par_iter().map(|at| (at * 7 % 10, red(at * 7 % 10))).collect();
    assert!(found.into_iter().all(|(index, red)| usize::from(red) == 20 * index));
}

#[test]
fn columns_may_be_called_otherwise_and_hold_bytes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let labels = Column::new("label".into(), [1_i32, 0]);
    let file = write(folder.path(), "a.parquet", vec![Some(png(10)), Some(png(20))], labels);
    let samples = open(&file, &json!({ "classes": ["no", "yes"] })).unwrap();
    assert_eq!(samples.get(1).unwrap().rgb("").unwrap().get_pixel(0, 0).0, [20; 3]);
    assert_eq!((samples.class(0), samples.classes(TaskKind::Classify).unwrap().len()), (Some(1), 2));
    assert_eq!(open(&file, &json!({})).unwrap().classes(TaskKind::Classify), None, "nothing names them");
    let message = open(&file, &json!({ "image": "img" })).err().unwrap().to_string();
    assert!(message.contains("no column `img` (`image`); its columns are image, label"), "{message}");
    let few = open(&file, &json!({ "classes": 1 })).err().unwrap().to_string();
    assert!(few.contains("`label`: there is a class 1, and 1 are named"), "{few}");
}

#[test]
fn images_without_a_class_or_bytes_are_corrupt_each_by_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let labels = |labels: [i64; 4]| Column::new("label".into(), labels);
    let images = || vec![Some(png(10)), None, Some(b"no image".to_vec()), Some(png(40))];
    let file = write(folder.path(), "a.parquet", images(), labels([0, 0, 0, -1]));
    let samples = open(&file, &json!({})).unwrap();
    assert!(samples.get(0).is_ok());
    for (index, words) in [
        (1, "a.parquet#1: there are no bytes"),
        (2, "a.parquet#2: not a JPEG"),
        (3, "a.parquet#3: it has no class"),
    ] {
        let error = samples.get(index).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }) && error.to_string().contains(words), "{error}");
    }
    let file = write(folder.path(), "b.parquet", images(), labels([-1; 4]));
    let message = open(&file, &json!({})).err().unwrap().to_string();
    assert!(message.contains("no image has a class; set `labelled: false`"), "{message}");
    let texts = Column::new("label".into(), ["a", "b", "c", "d"]);
    let file = write(folder.path(), "c.parquet", images(), texts);
    let message = open(&file, &json!({})).err().unwrap().to_string();
    assert!(message.contains("`label` holds str, not indices of classes"), "{message}");
}

#[test]
fn damaged_files_are_refused_or_their_images_corrupt_but_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(hugging_face().join("train-00000-of-00002.parquet")).unwrap();
    let path = folder.path().join("a.parquet");
    let try_all = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let samples = open(&json!(path), &json!({}))?;
        (0..samples.len()).try_for_each(|index| samples.get(index).map(|_| ()))
    };
    assert!(try_all(&whole).is_ok());
    for len in (0..whole.len()).step_by(131) {
        assert!(try_all(&whole[..len]).is_err(), "{len} bytes");
    }
    for at in (0..whole.len()).step_by(29) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        // Damage that no digest covers may go unseen.
        drop(try_all(&bytes));
    }
}
