#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// `tests/data/cases/cifar`: three images of each file of CIFAR-10 and CIFAR-100, as pickles in the form of the
/// distributed ones, and what they are.
fn cases() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cases/cifar").into()
}

fn open(root: &Path, keys: &Value) -> Result<Box<dyn Samples>, DataError> {
    let mut json = json!({ "type": "Cifar", "root": root });
    json.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value::<Box<dyn Dataset>>(json).unwrap().open()
}

/// A record whose pixels are told apart: the red of a pixel is its row, the green its column, the blue the number.
fn record(labels: &[u8], number: u8) -> Vec<u8> {
    let at = |value: fn(usize) -> usize| (0..SIDE * SIDE).map(move |at| value(at) as u8);
    let blue = std::iter::repeat_n(number, SIDE * SIDE);
    labels.iter().copied().chain(at(|at| at / SIDE)).chain(at(|at| at % SIDE)).chain(blue).collect()
}

fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(root.path().join(name), bytes).unwrap();
    }
    root
}

fn ten() -> TempDir {
    let batch = |number: u8| [record(&[number], number), record(&[9], 100 + number)].concat();
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    let mut files = vec![("batches.meta.txt", names.into()), ("test_batch.bin", record(&[3], 7))];
    let names =
        ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
    files.extend(names.into_iter().zip(1..).map(|(name, number)| (name, batch(number))));
    folder(&files)
}

#[test]
fn the_binary_version_of_cifar_10() {
    let root = ten();
    let train = open(root.path(), &json!({})).unwrap();
    assert_eq!(train.len(), 10);
    assert_eq!(train.classes(TaskKind::Classify).unwrap()[9], "truck");
    assert_eq!((train.class(4), train.class(5)), (Some(3), Some(9)));
    let sample = train.get(5).unwrap();
    assert!(sample.id.ends_with("data_batch_3.bin#1"), "{}", sample.id);
    assert_eq!(sample.rgb("").unwrap().get_pixel(5, 17).0, [17, 5, 103]);
    assert_eq!(train.identity(5).unwrap(), "data_batch_3.bin#1 9");
    let test = open(root.path(), &json!({ "split": "test" })).unwrap();
    assert_eq!((test.len(), test.class(0)), (1, Some(3)));
}

#[test]
fn the_binary_version_of_cifar_100_has_two_kinds_of_classes() {
    let names = |kind: &str, count: usize| {
        let names: Vec<_> = (0..count).map(|class| format!("{kind}{class}")).collect();
        names.join("\n").into_bytes()
    };
    let root = folder(&[
        ("train.bin", [record(&[4, 30], 0), record(&[19, 99], 1)].concat()),
        ("fine_label_names.txt", names("fine", 100)),
        ("coarse_label_names.txt", names("coarse", 20)),
    ]);
    for (keys, classes, last) in
        [(json!({}), [30, 99], "fine99"), (json!({ "coarse": true }), [4, 19], "coarse19")]
    {
        let train = open(root.path(), &keys).unwrap();
        assert_eq!([0, 1].map(|index| train.class(index).unwrap()), classes);
        assert_eq!(train.classes(TaskKind::Classify).unwrap().last().unwrap(), last);
    }
    let message = open(root.path(), &json!({ "split": "test" })).err().unwrap().to_string();
    assert!(message.contains("the files of CIFAR are not here"), "{message}");
}

/// Pickles as Python 2 writes them, read by numpy and pickle of Python 3.
#[test]
fn the_python_versions_are_what_python_reads() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(cases().join("expected.json")).unwrap()).unwrap();
    for (version, keys) in [
        ("cifar-10-batches-py", json!({})),
        ("cifar-100-python", json!({})),
        ("cifar-100-python", json!({ "coarse": true })),
    ] {
        let kind = if keys["coarse"] == true { "coarse" } else { "fine" };
        for split in ["train", "test"] {
            let mut keys = keys.clone();
            keys["split"] = json!(split);
            let samples = open(&cases().join(version), &keys).unwrap();
            let expected = &expected[version][split];
            let labels: Vec<usize> = serde_json::from_value(expected[kind].clone()).unwrap();
            assert!((0..samples.len()).map(|index| samples.class(index).unwrap()).eq(labels), "{version}");
            let names: Vec<String> =
                serde_json::from_value(expected[format!("{kind}_names")].clone()).unwrap();
            assert_eq!(samples.classes(TaskKind::Classify).unwrap(), names);
            for (index, pixel) in expected["pixels"].as_array().unwrap().iter().enumerate() {
                let rgb: [u8; 3] = serde_json::from_value(pixel.clone()).unwrap();
                assert_eq!(samples.get(index).unwrap().rgb("").unwrap().get_pixel(17, 5).0, rgb, "{version}");
            }
        }
    }
}

#[test]
fn what_is_not_whole_is_refused_by_name() {
    let refused = |change: &dyn Fn(&Path)| {
        let root = ten();
        change(root.path());
        open(root.path(), &json!({})).err().unwrap().to_string()
    };
    let write = |root: &Path, name: &str, bytes: Vec<u8>| std::fs::write(root.join(name), bytes).unwrap();
    let cut = refused(&|root| write(root, "data_batch_2.bin", vec![0; 3072]));
    assert!(
        cut.contains("data_batch_2.bin: 3072 bytes are no whole number of images of 3073 bytes"),
        "{cut}"
    );
    let gone = refused(&|root| std::fs::remove_file(root.join("data_batch_4.bin")).unwrap());
    assert!(gone.contains("data_batch_4.bin: no such file, and there are others"), "{gone}");
    let wrong = refused(&|root| write(root, "data_batch_5.bin", record(&[10], 0)));
    assert!(wrong.contains("image 0 is of class 10, and there are 10 classes"), "{wrong}");
    let message = open(ten().path(), &json!({ "coarse": true })).err().unwrap().to_string();
    assert!(message.contains("CIFAR-10 has no superclasses"), "{message}");
    let none = tempfile::tempdir().unwrap();
    let message = open(none.path(), &json!({})).err().unwrap().to_string();
    assert!(message.contains("`data_batch_1.bin`, `data_batch_1` or `train.bin`"), "{message}");
}
