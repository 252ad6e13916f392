//! Weights as other tools save them: `init_from`, `eval`, `predict` and `convert`. Files are those of
//! `tests/data/cases`, where the same weights lie under several names.

use std::collections::BTreeMap;
use std::fs;

use assert_cmd::assert::Assert;
use convmae_framework::weights::{DType, HostTensor, TensorMap, read_safetensors, write_safetensors};

use crate::support::{Folder, data, stderr, stdout};

/// A folder with the cases and their recipes, `fine.yaml` of a small `ConvViT` and `vit.yaml` of a small `ViT`.
fn cases() -> Folder {
    let folder = Folder::new();
    for (recipe, case) in [("fine.yaml", "ddp-prefix"), ("vit.yaml", "hf-vitmae-names")] {
        fs::copy(data("cases").join(case).join(recipe), folder.path(recipe)).unwrap();
    }
    folder
}

fn case(name: &str) -> String {
    data("cases").join(name).to_str().unwrap().to_owned()
}

/// Runs a recipe from weights, with more `--set`.
fn run(folder: &Folder, recipe: &str, weights: &str, out: &str, sets: &[&str]) -> Assert {
    let from = format!("init_from.weights={weights}");
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    folder.succeeds(["run", recipe, "--out", out, "--set", &from].into_iter().chain(sets))
}

fn final_weights(folder: &Folder, out: &str) -> Vec<u8> {
    fs::read(folder.path(out).join("model.safetensors")).unwrap()
}

fn tensors(folder: &Folder, file: &str) -> TensorMap {
    read_safetensors(&folder.path(file)).unwrap().tensors
}

/// The weights of `official` under the names of other tools: the run is the same, and says what it did.
fn are_the_same(folder: &Folder, recipe: &str, official: &str, others: &[(&str, &[&str], &str)]) {
    run(folder, recipe, &case(official), "official", &[]);
    for (at, (file, sets, said)) in others.iter().enumerate() {
        let out = at.to_string();
        let log = stderr(&run(folder, recipe, &case(file), &out, sets));
        assert!(log.contains(said), "{file}: {log}");
        assert!(final_weights(folder, &out) == final_weights(folder, "official"), "{file}");
    }
}

#[test]
fn wrappers_and_parts_hold_the_same_weights() {
    let hub = "sharded-safetensors/hub";
    are_the_same(
        &cases(),
        "fine.yaml",
        &format!("{hub}/model.safetensors.index.json"),
        &[
            (hub, &[], "55 loaded\n4 new in the model"),
            ("ddp-prefix/weights.pth", &[], "55 loaded\nnames taken without `module.`\n4 new in the model"),
            ("other-wrappers/mp_rank_00_model_states.pt", &[], "55 loaded\ntaken from `module`\n4 new"),
            ("other-wrappers/with_average.pth", &[], "55 loaded\ntaken from `model`; not from `model_ema`\n"),
            ("other-wrappers/with_average.pth", &["init_from.entry=model"], "taken from `model`"),
        ],
    );
}

#[test]
fn layouts_of_other_libraries_hold_the_same_weights() {
    are_the_same(
        &cases(),
        "vit.yaml",
        "hf-vitmae-names/same_in_official_names.pth",
        &[
            (
                "hf-vitmae-names/model.safetensors",
                &[],
                "30 loaded\n30 translated from the names of ViTMAE in transformers\n",
            ),
            (
                "mmpretrain-names/weights.pth",
                &[],
                "30 loaded\ntaken from `state_dict`\n30 translated from the names of mmpretrain\n",
            ),
        ],
    );
}

#[test]
fn an_average_is_taken_if_it_is_asked_for() {
    let folder = cases();
    let file = case("other-wrappers/with_average.pth");
    let first = |out: &str| tensors(&folder, out).get("pos_embed").unwrap().to_f32()[..3].to_vec();
    folder.succeeds(["convert", &file, "model.safetensors"]);
    folder.succeeds(["convert", &file, "average.safetensors", "--entry", "model_ema"]);
    // As Python reads them.
    assert_eq!(first("model.safetensors"), [0.0, 0.0, 1.0]);
    assert_eq!(first("average.safetensors"), [1.0, 1.0, 2.0]);
    let log = stderr(&run(&folder, "fine.yaml", &file, "a", &["init_from.entry=model_ema"]));
    assert!(log.contains("taken from `model_ema`; not from `model`"), "{log}");
    run(&folder, "fine.yaml", "average.safetensors", "b", &[]);
    assert!(final_weights(&folder, "a") == final_weights(&folder, "b"));
}

#[test]
fn of_a_student_and_a_teacher_one_has_to_be_named() {
    let folder = cases();
    let file = case("other-wrappers/student_teacher.pth");
    let several = "it holds several models: `student`, `teacher`; say which, with `entry: student` in `init_from` or `--entry student`";
    folder.fails(["convert", "--list", &file], 1, &[several]);
    let from = format!("init_from.weights={file}");
    folder.fails(["run", "fine.yaml", "--set", &from], 2, &[several]);
    let unknown = ["convert", "--list", &file, "--entry", "tutor"];
    folder.fails(unknown, 1, &["no entry `tutor` in it; there are `student`, `teacher`"]);
    let listing = stdout(&folder.succeeds(["convert", "--list", &file, "--entry", "teacher"]));
    assert!(listing.contains("backbone.pos_embed") && listing.contains("model: 4 tensors"), "{listing}");
    let sets = ["init_from.entry=student", "init_from.new=['*']"];
    let log = stderr(&run(&folder, "fine.yaml", &file, "out", &sets));
    for said in [
        "4 loaded",
        "taken from `student`; not from `teacher`",
        "names taken without `module.`",
        "4 names taken without `backbone.`",
    ] {
        assert!(log.contains(said), "{log}");
    }
}

#[test]
fn rules_of_the_recipe_rename() {
    let folder = cases();
    run(&folder, "vit.yaml", &case("hf-vitmae-names/same_in_official_names.pth"), "official", &[]);
    // Names of nobody's: `x.blocks` for `blocks`, and so on.
    let own = case("hf-vitmae-names/same_in_official_names.pth");
    folder.succeeds([
        "convert",
        &own,
        "own.pth",
        "--rename",
        "blocks.*.attn=stage.*.mixer",
        "--rename",
        "norm=last.norm",
    ]);
    let from = ["run", "vit.yaml", "--set", "init_from.weights=own.pth"];
    folder.fails(from, 2, &["stage.0.mixer.qkv.weight", "init_from.rename"]);
    let rules = "init_from.rename=[{ from: stage.*.mixer, to: blocks.*.attn }, { from: last, to: '' }, { from: none, to: x }]";
    let log = stderr(&run(&folder, "vit.yaml", "own.pth", "renamed", &[rules]));
    assert!(log.contains("30 loaded\n10 renamed by `rename`\n`rename` from `none` fits no name\n"), "{log}");
    assert!(final_weights(&folder, "renamed") == final_weights(&folder, "official"));
    let wrong = ["check", "vit.yaml", "--set", "init_from.rename=[{ from: a.*, to: b }]"];
    folder.fails(wrong, 2, &["init_from.rename.0: `a.*` has 1 `*`, `b` has 0"]);
}

#[test]
fn convert_translates_there_and_back() {
    let folder = cases();
    let official = case("hf-vitmae-names/same_in_official_names.pth");
    folder.succeeds(["convert", &official, "official.safetensors"]);
    for (layout, theirs) in
        [("hf-vitmae", "hf-vitmae-names/model.safetensors"), ("mmpretrain", "mmpretrain-names/weights.pth")]
    {
        for named in [layout, "auto"] {
            folder.succeeds(["convert", &case(theirs), "translated.safetensors", "--layout", named]);
            let (translated, expected) =
                (tensors(&folder, "translated.safetensors"), tensors(&folder, "official.safetensors"));
            assert_eq!(translated.len(), expected.len());
            for (name, tensor) in expected.iter() {
                assert_eq!(translated.get(name), Some(tensor), "{layout}: {name}");
            }
        }
        folder.succeeds(["convert", &case(theirs), "theirs.safetensors"]);
        folder.succeeds(["convert", &official, "back.safetensors", "--layout", layout]);
        let (back, expected) = (tensors(&folder, "back.safetensors"), tensors(&folder, "theirs.safetensors"));
        assert_eq!(back.len(), expected.len());
        for (name, tensor) in expected.iter() {
            assert_eq!(back.get(name), Some(tensor), "{layout}: {name}");
        }
    }
    let none = ["convert", &official, "x.pth", "--layout", "auto"];
    folder.fails(none, 1, &["its names are neither of any layout that is known nor official ones"]);
    folder.fails(
        ["convert", &official, "x.pth", "--layout", "keras"],
        2,
        &["hf-vitmae", "mmpretrain", "timm"],
    );
}

#[test]
fn downloads_that_broke_off_are_told() {
    let folder = cases();
    fs::write(folder.path("empty.pth"), "").unwrap();
    fs::create_dir(folder.path("hub")).unwrap();
    let hub = data("cases/sharded-safetensors/hub");
    for file in ["model.safetensors.index.json", "model-00001-of-00002.safetensors"] {
        fs::copy(hub.join(file), folder.path("hub").join(file)).unwrap();
    }
    let part = fs::read(hub.join("model-00002-of-00002.safetensors")).unwrap();
    fs::write(folder.path("part.safetensors"), &part[..part.len() / 2]).unwrap();
    for (weights, said) in [
        (case("broken-downloads/half.pth"), "truncated: it has no directory at its end; download it again"),
        ("empty.pth".to_owned(), "empty.pth: the file is empty"),
        ("part.safetensors".to_owned(), "part.safetensors: truncated: "),
        ("hub".to_owned(), "its part model-00002-of-00002.safetensors is missing"),
    ] {
        let from = format!("init_from.weights={weights}");
        folder.fails(["run", "fine.yaml", "--set", &from], 2, &[said]);
        folder.fails(["convert", "--list", &weights], 1, &[said]);
    }
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let folder = cases();
    folder.succeeds(["convert", &case("sharded-safetensors/hub"), "w.safetensors"]);
    let mut damaged = tensors(&folder, "w.safetensors");
    damaged.insert(
        "blocks1.0.norm1.bias",
        HostTensor::from_f32(vec![4], &[0.0, f32::NAN, 1.0, f32::INFINITY]).unwrap(),
    );
    write_safetensors(&folder.path("nan.safetensors"), &damaged, &BTreeMap::new()).unwrap();
    let said = "nan.safetensors: the tensor `blocks1.0.norm1.bias` is damaged: 2 of its 4 values are NaN or infinite";
    folder.fails(["run", "fine.yaml", "--set", "init_from.weights=nan.safetensors"], 2, &[said]);
    run(&folder, "fine.yaml", "w.safetensors", "out", &[]);
    let mut own = tensors(&folder, "out/model.safetensors");
    own.insert("blocks1.0.norm1.bias", damaged.get("blocks1.0.norm1.bias").unwrap().clone());
    write_safetensors(&folder.path("nan.safetensors"), &own, &BTreeMap::new()).unwrap();
    folder.fails(["eval", "out", "--weights", "nan.safetensors"], 1, &[said]);
}

#[test]
fn eval_and_predict_take_what_wrapping_modules_saved() {
    let folder = cases();
    run(&folder, "fine.yaml", &case("sharded-safetensors/hub"), "out", &[]);
    let own = tensors(&folder, "out/model.safetensors");
    let wrapped: TensorMap =
        own.iter().map(|(name, tensor)| (format!("ema.module.net.{name}"), tensor.clone())).collect();
    write_safetensors(&folder.path("w.safetensors"), &wrapped, &BTreeMap::new()).unwrap();
    let figures = |args: &[&str]| {
        stdout(&folder.succeeds(["eval", "out", "--json"].into_iter().chain(args.iter().copied())))
    };
    let metrics = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["metrics"].clone();
    let expected = metrics(&figures(&[]));
    assert_eq!(metrics(&figures(&["--weights", "w.safetensors"])), expected);
    assert_eq!(metrics(&figures(&["--weights", "w.safetensors", "--entry", "ema"])), expected);
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8, y as u8, 7]))
        .save(folder.path("a.png"))
        .unwrap();
    let predict = |weights: &str| stdout(&folder.succeeds(["predict", "out", "a.png", "--weights", weights]));
    assert_eq!(predict("w.safetensors"), predict("out/model.safetensors"));
}

#[test]
fn names_out_of_a_file_do_not_control_the_terminal() {
    let folder = cases();
    let name = "\u{1b}]0;title\u{7}\u{9b}31m";
    let tensors = [(name, HostTensor::from_f32(vec![1], &[0.0]).unwrap())].into_iter().collect();
    write_safetensors(
        &folder.path("w.safetensors"),
        &tensors,
        &[("a\u{1b}c".to_owned(), "\u{9b}2J".to_owned())].into(),
    )
    .unwrap();
    let listing = stdout(&folder.succeeds(["convert", "--list", "w.safetensors"]));
    assert!(listing.contains("\\u{1b}]0;title\\u{7}\\u{9b}31m"), "{listing}");
    let refused =
        folder.convmae(["run", "fine.yaml", "--set", "init_from.weights=w.safetensors"]).output().unwrap();
    for text in [listing, String::from_utf8(refused.stderr).unwrap()] {
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }
}

/// `{"model": {name: array}, "__author__": "third_party"}` as numpy pickles it in protocol 3: the `.pkl` files
/// of detectron2's model zoo.
fn zoo_pickle(tensors: &TensorMap) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let mut out = b"\x80\x03}(".to_vec();
    text(&mut out, "model");
    out.extend(b"}(");
    for (name, tensor) in tensors.iter() {
        let code = match tensor.dtype {
            DType::F32 => "f4",
            DType::I64 => "i8",
            other => panic!("{other}"),
        };
        text(&mut out, name);
        out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(");
        for &axis in &tensor.shape {
            out.push(b'J');
            out.extend((axis as u32).to_le_bytes());
        }
        out.extend(b"tcnumpy\ndtype\n");
        text(&mut out, code);
        out.extend(b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89B");
        out.extend((tensor.data.len() as u32).to_le_bytes());
        out.extend(&tensor.data);
        out.extend(b"tb");
    }
    out.push(b'u');
    text(&mut out, "__author__");
    text(&mut out, "third_party");
    text(&mut out, "matching_heuristics");
    out.extend(b"\x88u.");
    out
}

#[test]
fn a_detector_of_detectron2_loads_under_its_own_names() {
    let folder = Folder::new();
    let official = read_safetensors(&data("detection/weights.safetensors")).unwrap().tensors;
    let mut saved = official.clone();
    // What old checkpoints hold besides, and detectron2 drops.
    for name in ["pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.0"] {
        saved.insert(name, HostTensor::from_f32(vec![1], &[0.0]).unwrap());
    }
    fs::write(folder.path("model_final.pkl"), zoo_pickle(&saved)).unwrap();
    folder.succeeds(["convert", "model_final.pkl", "converted.safetensors"]);
    let converted = tensors(&folder, "converted.safetensors");
    for (name, tensor) in official.iter() {
        assert_eq!(converted.get(name), Some(tensor), "{name}");
    }
    image::RgbImage::from_fn(256, 256, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]))
        .save(folder.path("a.png"))
        .unwrap();
    let recipe = data("detection/narrow.yaml");
    let val = "data.val={ dataset: { type: SyntheticScenes, length: 1, size: 256 }, transforms: [{ type: Normalize }], batch_size: 1 }";
    let predict = |weights: &str| {
        let fixed = ["predict", recipe.to_str().unwrap(), "a.png", "--json", "--min-score", "0.01"];
        stdout(&folder.succeeds(fixed.into_iter().chain(["--set", val, "--weights", weights])))
    };
    let found = predict("model_final.pkl");
    assert!(found.contains("score"), "{found}");
    assert_eq!(found, predict(data("detection/weights.safetensors").to_str().unwrap()));
}
