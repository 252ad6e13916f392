//! Reading the reference checkpoints in `tests/data/checkpoints`, written by PyTorch.

use std::fs;
use std::path::PathBuf;

use super::*;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "data", "checkpoints", name].iter().collect()
}

/// With the optimizer's state.
fn read_all(path: &Path) -> Result<WeightsFile, WeightsError> {
    read_selection(path, Selection { optimizer: true, ..Selection::default() })
}

fn read_entry(path: &Path, entry: &str) -> Result<WeightsFile, WeightsError> {
    read_selection(path, Selection { entry: Some(entry), ..Selection::default() })
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
    let error = read_all(&path).unwrap_err().to_string();
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
        let state = read_all(&data(name)).unwrap().optimizer.unwrap();
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
    let file = read_all(&data("pretrain_zip.pth")).unwrap();
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
    let directory = "truncated: it has no directory at its end; download it again";
    assert!(refusal("corrupt_truncated_zip.pth").ends_with(directory));
    assert!(refusal("corrupt_truncated_legacy.pth").contains("truncated: the file ends inside it"));
}

#[test]
fn other_files_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    let reason = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        read(&path).unwrap_err().to_string()
    };
    assert!(reason(b"GIF89a, a picture").contains("it starts with \"GIF89a, a pictur\""));
    assert!(reason(b"").ends_with("the file is empty"));
    assert!(reason(&[0; 100]).ends_with("truncated: it starts with zeros; download it again"));
    assert!(reason(b"<!DOCTYPE html><html>").contains("a web page"));
    assert!(reason(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(reason(b"\x80\x02}q\x00.").contains("no model in it"));
    assert!(reason(b"{\"architectures\": []}").contains("missing field `weight_map`"));
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
        (b"\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00aK\x01ss.", "found a dict of [model]"),
    ] {
        write_zip(&path, pickle, &[]);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn arrays_of_numpy_are_tensors_in_every_protocol() {
    let expected = expected("numpy_expected.safetensors");
    for protocol in 2..=5 {
        let file = read(&data(&format!("numpy_protocol{protocol}.pkl"))).unwrap();
        assert_same(&file.tensors, &expected);
        // Text and numbers of the other byte order have no counterpart here.
        let passed_over = ["names", "big"].map(|name| (name.to_owned(), "numpy.ndarray".to_owned()));
        assert_eq!(file.passed_over, passed_over);
        assert_eq!(
            (&file.metadata["__author__"], &file.metadata["matching_heuristics"]),
            (&"third_party".into(), &true.into())
        );
        assert_eq!((&file.metadata["iteration"], &file.metadata["accuracy"]), (&7.into(), &0.5.into()));
    }
}

#[test]
fn objects_beside_the_tensors_are_passed_over_by_name() {
    for protocol in [2, 4] {
        let file = read(&data(&format!("objects_protocol{protocol}.pth"))).unwrap();
        let values = |name: &str| file.tensors.get(name).unwrap().to_f32();
        assert_eq!(file.tensors.names().collect::<Vec<_>>(), ["a.weight", "a.bias", "b.scale"]);
        assert_eq!(
            (values("a.weight"), values("a.bias"), values("b.scale")),
            (vec![1., 2., 3., 4.], vec![5., 6.], vec![7.])
        );
        assert_eq!(
            (&file.metadata["epoch"], &file.metadata["best"], &file.metadata["done"]),
            (&3.into(), &0.5.into(), &true.into())
        );
        let class =
            |place: &str| file.passed_over.iter().find(|(known, _)| known == place).unwrap().1.as_str();
        for (place, expected) in [
            ("freqs", "torch.ComplexFloatStorage"),
            // Protocol 2 has no keywords of its own.
            ("keywords", if protocol == 2 { "functools.partial" } else { "project.train.Kw" }),
            ("a.extra_state", if protocol == 2 { "functools.partial" } else { "project.train.Kw" }),
            ("args", "pathlib.PosixPath"),
            ("config", "omegaconf.dictconfig.DictConfig"),
            ("message_hub", "mmengine.logging.history_buffer.HistoryBuffer"),
            ("mmengine", "mmengine.config.config.Config"),
            ("date", "datetime.datetime"),
            ("logger", "project.train.Logger"),
        ] {
            assert_eq!(class(place), expected, "{protocol}: {place}");
        }
        let notes = file.notes();
        assert!(notes[1].contains(" passed over: freqs (torch.ComplexFloatStorage), "), "{notes:?}");
    }
}

#[test]
fn a_whole_module_is_told_from_its_state() {
    let whole = "found a dict of [model, epoch]; `model` is a whole `models.convmae.ConvViT`: save its `state_dict()`";
    assert!(refusal("whole_module.pth").ends_with(whole), "{}", refusal("whole_module.pth"));
}

#[test]
fn the_entry_that_holds_the_model_can_be_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.pth");
    let value = |read: Result<WeightsFile, WeightsError>| {
        let file = read.unwrap();
        (file.entry.clone(), file.others.clone(), file.tensors.get("w").unwrap().to_f32()[0])
    };
    // A dict of dicts with a tensor each: entry 0 is storage 0, which is 0.
    let write = |entries: &[&str]| {
        let mut pickle = b"\x80\x02}".to_vec();
        for (at, entry) in entries.iter().enumerate() {
            let words: Vec<&str> = entry.split('.').collect();
            for word in &words {
                pickle.extend([&[b'X', word.len() as u8, 0, 0, 0], word.as_bytes(), b"}"].concat());
            }
            pickle.extend(pickled_tensor("w", b'0' + at as u8, b"K\x01", b"K\x01\x85"));
            pickle.extend(words.iter().map(|_| b's'));
        }
        pickle.push(b'.');
        let storages: Vec<_> =
            (0..entries.len()).map(|at| (at.to_string(), (at as f32).to_le_bytes())).collect();
        let storages: Vec<(&str, &[u8])> =
            storages.iter().map(|(key, bytes)| (key.as_str(), &bytes[..])).collect();
        write_zip(&path, &pickle, &storages);
    };
    let some = |entry: &str| Some(entry.to_owned());
    write(&["module", "optimizer.state.0", "buffers.x"]);
    assert_eq!(value(read(&path)), (some("module"), vec!["buffers.x".to_owned()], 0.));
    write(&["model_ema", "model"]);
    assert_eq!(value(read(&path)), (some("model"), vec!["model_ema".to_owned()], 1.));
    assert_eq!(read(&path).unwrap().notes(), ["taken from `model`; not from `model_ema`"]);
    assert_eq!(value(read_entry(&path, "model_ema")), (some("model_ema"), vec!["model".to_owned()], 0.));
    // The only one, whatever it is called, and as deep as it is.
    write(&["weights_of_mine"]);
    assert_eq!(value(read(&path)).0, some("weights_of_mine"));
    write(&["state_dict.model"]);
    assert_eq!(value(read(&path)).0, some("state_dict.model"));
    write(&["student", "teacher"]);
    let error = read(&path).unwrap_err().to_string();
    assert!(error.ends_with(
        "it holds several models: `student`, `teacher`; say which, with `entry: student` in `init_from` or `--entry student`"
    ), "{error}");
    assert_eq!(value(read_entry(&path, "teacher")).2, 1.);
    let error = read_entry(&path, "modle").unwrap_err().to_string();
    assert!(error.ends_with("no entry `modle` in it; there are `student`, `teacher`"), "{error}");
}

#[test]
fn an_entry_may_be_what_names_begin_with() {
    let directory = tempfile::tempdir().unwrap();
    let tensors: TensorMap = ["student.w", "teacher.w", "epoch"]
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, HostTensor::scalar_i64(at as i64)))
        .collect();
    let (pth, safetensors) = (directory.path().join("w.pth"), directory.path().join("w.safetensors"));
    write_pth(&pth, &tensors).unwrap();
    write_safetensors(&safetensors, &tensors, &std::collections::BTreeMap::new()).unwrap();
    for path in [pth, safetensors] {
        let file = read_entry(&path, "teacher").unwrap();
        assert_eq!(file.tensors.iter().collect::<Vec<_>>(), [("w", &HostTensor::scalar_i64(1))]);
        let error = read_entry(&path, "tutor").unwrap_err().to_string();
        assert!(
            error.contains("no entry `tutor` in it; there are ") && error.contains("`student`"),
            "{error}"
        );
    }
}

#[test]
fn averages_of_a_checkpoint_of_this_program_are_taken_unless_its_model_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.safetensors");
    let tensors: TensorMap = [("model.w", 1), ("ema.w", 2)]
        .map(|(name, value)| (name, HostTensor::scalar_i64(value)))
        .into_iter()
        .collect();
    write_safetensors(&path, &tensors, &[(CHECKPOINT_KEY.to_owned(), String::new())].into()).unwrap();
    let value = |file: &WeightsFile| file.tensors.get("w").unwrap().as_i64();
    let file = read(&path).unwrap();
    assert_eq!(
        (value(&file), file.notes()),
        (Some(2), vec!["taken from `ema`; not from `model`".to_owned()])
    );
    assert_eq!(value(&read_entry(&path, "model").unwrap()), Some(1));
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
