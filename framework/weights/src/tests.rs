//! Reading the reference checkpoints in `tests/data/checkpoints`, written by PyTorch.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "data", "checkpoints", name].iter().collect()
}

fn expected(name: &str) -> TensorMap {
    read_safetensors(&data(name)).unwrap().tensors
}

fn assert_same(found: &TensorMap, expected: &TensorMap) {
    assert_eq!(found.len(), expected.len());
    for (name, tensor) in expected.iter() {
        assert_eq!(found.get(name), Some(tensor), "{name}");
    }
}

fn pretrain_json() -> Json {
    serde_json::from_slice(&fs::read(data("pretrain_expected.json")).unwrap()).unwrap()
}

fn refusal(name: &str) -> String {
    let path = data(name);
    let error = read_with_optimizer(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
    assert!(!PathBuf::from("PICKLE_PAYLOAD_WAS_EXECUTED").exists());
    error
}

#[test]
fn the_model_is_found_in_every_wrapper_and_format() {
    let (model, _) = expected("pretrain_expected.safetensors").split_prefix("model.");
    let keys: Vec<_> = model_keys();
    for name in ["pretrain_zip.pth", "pretrain_legacy.pth", "bare_state_dict.pth"] {
        let file = read(&data(name)).unwrap();
        assert_same(&file.tensors, &model);
        assert_eq!(file.tensors.names().collect::<Vec<_>>(), keys, "{name}");
        assert_eq!(file.optimizer, None);
    }
}

fn model_keys() -> Vec<String> {
    let json = pretrain_json();
    let keys = json.as_object().unwrap().iter().find(|(key, _)| key.contains("keys")).unwrap().1;
    keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_optimizer_state_is_read_when_asked_for() {
    let (_, rest) = expected("pretrain_expected.safetensors").split_prefix("model.");
    let (expected, _) = rest.split_prefix("optimizer.");
    for name in ["pretrain_zip.pth", "pretrain_legacy.pth"] {
        let state = read_with_optimizer(&data(name)).unwrap().optimizer.unwrap();
        assert_eq!(state.tensors.len(), expected.len());
        for (key, tensor) in expected.iter() {
            let found = state.tensors.get(key).unwrap();
            if key.rsplit_once('.').is_some_and(|(_, field)| field == "step") {
                assert_eq!(found.to_f32(), tensor.to_f32(), "{key}");
            } else {
                assert_eq!(found, tensor, "{key}");
            }
        }
    }
}

#[test]
fn arguments_and_other_entries_are_plain_values() {
    let json = pretrain_json();
    let file = read_with_optimizer(&data("pretrain_zip.pth")).unwrap();
    for key in ["args", "epoch", "scaler"] {
        assert_eq!(file.metadata[key], json[key], "{key}");
    }
    assert_eq!(file.optimizer.unwrap().param_groups, json["param_groups"]);
    let legacy = read(&data("pretrain_legacy.pth")).unwrap();
    assert_eq!(legacy.metadata, file.metadata);
}

#[test]
fn half_precision_stays_half_precision() {
    assert_same(&read(&data("fp16.pth")).unwrap().tensors, &expected("fp16_expected.safetensors"));
}

#[test]
fn views_and_all_types_become_contiguous() {
    let expected = expected("odd_views_expected.safetensors");
    for name in ["odd_views_zip.pth", "odd_views_legacy.pth"] {
        let file = read(&data(name)).unwrap();
        assert_same(&file.tensors, &expected);
        assert_eq!(file.metadata["note"], "views");
    }
}

#[test]
fn hostile_files_are_refused_by_the_name_they_call() {
    assert!(refusal("malicious_os_system_zip.pth").contains("refused: the pickle calls `os.system`"));
    assert!(refusal("malicious_os_system_bare.pth").contains("refused: the pickle calls `os.system`"));
    assert!(refusal("malicious_in_args_zip.pth").contains("refused: the pickle calls `posix.system`"));
}

#[test]
fn truncated_checkpoints_are_refused() {
    assert!(refusal("corrupt_truncated_zip.pth").contains("not a valid PyTorch zip file"));
    assert!(refusal("corrupt_truncated_legacy.pth").contains("the file ends inside it"));
}

#[test]
fn other_files_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    let reason = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        read(&path).unwrap_err().to_string()
    };
    assert!(reason(b"<!DOCTYPE html><html>").contains("it starts with \"<!DOCTYPE html><\""));
    assert!(reason(b"").contains("it starts with \"\""));
    assert!(reason(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(reason(b"\x80\x02}q\x00.").contains("a pickle, but not one of torch.save"));
    let error = read(&directory.path().join("absent")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open"), "{error}");
}

#[test]
fn a_state_dict_must_hold_tensors_and_an_empty_one_is_no_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    write_pth(&path, &TensorMap::new()).unwrap();
    assert_eq!(read(&path).unwrap().tensors.len(), 0);
    for (pickle, expected) in [
        (&b"\x80\x02}X\x05\x00\x00\x00epochK\x03s."[..], "no model in it"),
        (b"\x80\x02]K\x01a.", "found a list"),
        (b"\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00aK\x01ss.", "`a` is a int, not a tensor"),
    ] {
        write_zip(&path, pickle, &[]);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A checkpoint of the pickle `data.pkl` and the storages given.
fn write_zip(path: &Path, pickle: &[u8], storages: &[(&str, &[u8])]) {
    use std::io::Write;
    let mut archive = ::zip::ZipWriter::new(File::create(path).unwrap());
    let options =
        ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
    archive.start_file("x/data.pkl", options).unwrap();
    archive.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        archive.start_file(format!("x/data/{key}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// The part of a pickle that adds a tensor of floats to a dict. `len` and `shape` are pickled.
fn pickled_tensor(name: &str, storage: u8, len: &[u8], shape: &[u8]) -> Vec<u8> {
    let mut pickle = [&[b'X', name.len() as u8, 0, 0, 0], name.as_bytes()].concat();
    pickle.extend_from_slice(
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00",
    );
    pickle.push(storage);
    pickle.extend_from_slice(b"X\x03\x00\x00\x00cpu");
    pickle.extend_from_slice(len);
    pickle.extend_from_slice(b"tQK\x00");
    pickle.extend_from_slice(shape);
    pickle.extend_from_slice(b"K\x00\x85\x89NtRs");
    pickle
}

#[test]
fn storages_are_not_read_again_without_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    let bytes = vec![0; 40_000];
    let read = |storage: fn(u32) -> u8| {
        let tensor = |number: u32| {
            pickled_tensor(&number.to_string(), storage(number), b"J\x10\x27\x00\x00", b"K\x01\x85")
        };
        let tensors: Vec<_> = (0..100).flat_map(tensor).collect();
        write_zip(&path, &[b"\x80\x02}", &tensors[..], b"."].concat(), &[("0", &bytes), ("1", &bytes)]);
        read(&path).map_err(|error| error.to_string())
    };
    assert_eq!(read(|number| if number < 50 { b'0' } else { b'1' }).unwrap().tensors.len(), 100);
    let error = read(|number| b'0' + (number % 2) as u8).unwrap_err();
    assert!(error.contains("times the file's size"), "{error}");
}

#[test]
fn a_tiny_file_cannot_ask_for_gigabytes() {
    // One element, expanded to [2147483647] with stride 0.
    let tensor =
        |len: &[u8], shape: &[u8]| [b"\x80\x02}", &pickled_tensor("w", b'0', len, shape)[..], b"."].concat();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    let reason = |pickle: &[u8]| {
        write_zip(&path, pickle, &[("0", &[0; 4])]);
        read(&path).map_err(|error| error.to_string())
    };
    assert_eq!(reason(&tensor(b"K\x01", b"K\x03\x85")).unwrap().tensors.get("w").unwrap().shape, [3]);
    assert!(
        reason(&tensor(b"K\x01", b"J\xff\xff\xff\x7f\x85")).unwrap_err().contains("times the file's size")
    );
    assert!(reason(&tensor(b"J\xff\xff\xff\x7f", b"K\x03\x85")).unwrap_err().contains("4 bytes found"));
}

#[test]
fn a_written_pth_reads_back_in_order_with_every_type() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    for name in ["odd_views_expected.safetensors", "fp16_expected.safetensors"] {
        let tensors = expected(name);
        write_pth(&path, &tensors).unwrap();
        let file = read(&path).unwrap();
        assert_eq!(file.tensors, tensors);
        assert!(file.metadata.is_empty());
    }
}

#[test]
fn a_written_pth_keeps_storages_aligned() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    write_pth(&path, &expected("odd_views_expected.safetensors")).unwrap();
    let mut archive = ::zip::ZipArchive::new(File::open(&path).unwrap()).unwrap();
    for at in 0..archive.len() {
        let entry = archive.by_index(at).unwrap();
        assert_eq!((entry.compression(), entry.data_start() % 64), (::zip::CompressionMethod::Stored, 0));
    }
}

/// Files of every format, small enough to be damaged many times.
const SMALL: [&str; 3] = ["odd_views_zip.pth", "odd_views_legacy.pth", "odd_views_expected.safetensors"];

#[test]
fn no_truncation_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w");
    for name in SMALL {
        let good = fs::read(data(name)).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(read_with_optimizer(&path).is_err(), "{name} cut to {len} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn flipped_bytes_never_panic(
        name in prop::sample::select(&SMALL[..]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
    ) {
        let mut bytes = fs::read(data(name)).unwrap();
        for (at, flip) in flips {
            *at.get_mut(&mut bytes) ^= flip;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let _ = read_with_optimizer(file.path());
    }

    #[test]
    fn any_pickle_program_is_read_or_refused(
        program in prop::collection::vec(prop::sample::select(&b"(.012N\x88\x89K\x01\x02]ael)t\x85\x86\x87}dsuhq\x94R\x81bQ"[..]), 0..200),
    ) {
        let _ = pickle::load(&program);
    }
}
