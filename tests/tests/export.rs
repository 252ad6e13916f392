//! Weights for other tools. The oracle are files of these tools with the same weights: `tests/data/cases`.

use std::fs;

use convmae_framework::weights::{TensorMap, read, read_safetensors};

use crate::support::{Folder, data};

const OFFICIAL: &str = "hf-vitmae-names/same_in_official_names.pth";

/// A folder with `vit.yaml`, and a run of it that starts from the official names and takes no step worth the name.
fn trained() -> Folder {
    let folder = Folder::new();
    fs::copy(data("cases/hf-vitmae-names/vit.yaml"), folder.path("vit.yaml")).unwrap();
    let from = format!("init_from.weights={}", data("cases").join(OFFICIAL).display());
    folder.succeeds(["run", "vit.yaml", "--out", "run", "--set", &from, "--set", "optimizer.lr=0"]);
    folder
}

fn of_case(name: &str) -> TensorMap {
    read(&data("cases").join(name)).unwrap().tensors
}

fn exported(folder: &Folder, file: &str, more: &[&str]) -> TensorMap {
    folder.succeeds(["export", "run", "--out", file].iter().chain(more).copied());
    read(&folder.path(file)).unwrap().tensors
}

/// Only what the other library's file of the backbone has: of the pretraining files the decoders are left out.
fn is_part_of(part: &TensorMap, whole: &TensorMap) {
    assert!(part.len() >= 28, "{} tensors", part.len());
    for (name, tensor) in part.iter() {
        assert_eq!(Some(tensor), whole.get(name), "{name}");
    }
}

#[test]
fn a_backbone_has_the_names_that_other_libraries_give_it() {
    let folder = trained();
    let node = ["--node", "backbone"];
    let official = exported(&folder, "official.pth", &node);
    assert!(official.names().all(|name| !name.starts_with("head") && !name.starts_with("backbone")));
    is_part_of(&official, &of_case(OFFICIAL));
    let hf = exported(&folder, "hf.safetensors", &["--node", "backbone", "--layout", "hf-vitmae"]);
    is_part_of(&hf, &of_case("hf-vitmae-names/model.safetensors"));
    let mm = exported(&folder, "mm.pth", &["--node", "backbone", "--layout", "mmpretrain"]);
    is_part_of(&mm, &of_case("mmpretrain-names/weights.pth"));
    // Without layer scale timm's names are the official ones.
    assert_eq!(exported(&folder, "timm.safetensors", &["--node", "backbone", "--layout", "timm"]), official);
}

#[test]
fn a_whole_model_is_that_of_the_run() {
    let folder = trained();
    let whole = exported(&folder, "whole.pth", &[]);
    assert_eq!(whole, read_safetensors(&folder.path("run/model.safetensors")).unwrap().tensors);
    assert_eq!(whole, read(&folder.path("whole.pth")).unwrap().tensors);
}

#[test]
fn what_cannot_be_exported_is_said() {
    let folder = trained();
    let run = ["export", "run", "--out", "w.pth"];
    let fails =
        |more: &[&'static str], words: &str| folder.fails(run.iter().chain(more).copied(), 2, &[words]);
    fails(&["--node", "neck"], "no node `neck` with parameters; it has `backbone`, `classifier`");
    fails(&["--layout", "hf-vitmae"], "have no name in ViTMAE in transformers");
    folder.fails(["export", "run", "--out", "w.onnx"], 2, &["w.onnx: the extension names no format"]);
    assert!(!folder.path("w.pth").exists());
}
