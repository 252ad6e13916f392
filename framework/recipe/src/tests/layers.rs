//! Layers, their order, provenance, lock files.

use std::path::PathBuf;

use serde_json::json;

use super::super::{LayerKind, Problem, Sources, load};
use super::{BASE, ConvViT, Files, catalog, load_text, value};

fn family() -> Files {
    Files::new(&[
        ("_base_/convmae.yaml", BASE),
        ("_base_/schedule.yaml", "optimizer: { type: AdamW, lr: 1.5e-4 }\ntrain:\n  epochs: 800\n"),
        (
            "pretrain/base.yaml",
            "extends: [../_base_/convmae.yaml, ../_base_/schedule.yaml]\nname: mine\nmodel:\n  mask:\n    mask_ratio: 0.6\n",
        ),
    ])
}

#[test]
fn extends_then_recipe_then_environment_then_set() {
    let files = family();
    let recipe = files.load("pretrain/base.yaml", &[], &[]).unwrap();
    assert_eq!(recipe.get("name"), Some(&json!("mine")));
    assert_eq!(recipe.get("train.epochs"), Some(&json!(800)));
    assert_eq!(recipe.get("model.mask"), Some(&json!({"type": "BlockMasker", "mask_ratio": 0.6})));
    assert_eq!(recipe.get("optimizer.lr"), Some(&json!(1.5e-4)));

    let environment = [("CONVMAE_TRAIN__EPOCHS", "100"), ("CONVMAE_SEED", "7"), ("PATH", "/bin")];
    let recipe = files.load("pretrain/base.yaml", &environment, &["seed=8"]).unwrap();
    assert_eq!(recipe.get("train.epochs"), Some(&json!(100)));
    assert_eq!(recipe.get("seed"), Some(&json!(8)));
}

#[test]
fn keys_keep_the_order_of_the_files() {
    let recipe = family().load("pretrain/base.yaml", &[], &["model.backbone.drop_path=0.1"]).unwrap();
    let keys = |key: &str| recipe.get(key).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(""), ["name", "seed", "model", "data", "train", "optimizer"]);
    assert_eq!(keys("model.backbone"), ["type", "embed_dim", "depth", "num_heads", "drop_path", "window"]);
}

#[test]
fn why_names_every_layer_and_the_winner_last() {
    let files = family();
    let environment = [("CONVMAE_TRAIN__EPOCHS", "100")];
    let recipe = files.load("pretrain/base.yaml", &environment, &["train.epochs=1"]).unwrap();
    let folder = format!("{}/", files.path().display());
    let why: Vec<_> = recipe
        .why("train.epochs")
        .unwrap()
        .iter()
        .map(|origin| origin.to_string().replace(&folder, ""))
        .collect();
    assert_eq!(
        why,
        [
            "_base_/convmae.yaml:17:3: 1600",
            "_base_/schedule.yaml:3:3: 800",
            "environment variable CONVMAE_TRAIN__EPOCHS: 100",
            "--set train.epochs=1: 1"
        ]
    );
    let origin = &recipe.why("data.transforms.0.size").unwrap()[0];
    assert_eq!(origin.layer, LayerKind::File(files.path().join("_base_/convmae.yaml")));
    assert_eq!((origin.line, origin.column), (14, 7));
    assert_eq!(recipe.why("train.nothing"), None);
}

#[test]
fn a_changed_type_replaces_the_block() {
    let files = Files::new(&[
        ("base.yaml", BASE),
        ("recipe.yaml", "extends: base.yaml\nmodel:\n  backbone: { type: Vit, depth: 12 }\n"),
    ]);
    let recipe = files.load("recipe.yaml", &[], &[]).unwrap();
    assert_eq!(recipe.get("model.backbone"), Some(&json!({"type": "Vit", "depth": 12})));
    let recipe = files.load("base.yaml", &[], &["model.backbone.type=Vit"]).unwrap();
    assert_eq!(recipe.get("model.backbone"), Some(&json!({"type": "Vit", "depth": 0})));
    let recipe = files.load("base.yaml", &[], &["model.backbone.type=ConvViT"]).unwrap();
    assert_eq!(recipe.get("model.backbone.num_heads"), Some(&json!(12)));
}

#[test]
fn lists_replace_and_set_reaches_into_them() {
    let files = Files::new(&[
        ("base.yaml", BASE),
        ("recipe.yaml", "extends: base.yaml\ndata: { transforms: [{type: Flip}] }\n"),
    ]);
    let recipe = files.load("recipe.yaml", &[], &[]).unwrap();
    assert_eq!(recipe.get("data.transforms"), Some(&json!([{"type": "Flip", "p": 0.0}])));
    let sets = ["data.transforms.0.size=64", "data.transforms.1.type=Resize", "data.transforms.1.size=32"];
    let recipe = files.load("base.yaml", &[("CONVMAE_DATA__TRANSFORMS__1__P", "0.5")], &sets).unwrap();
    assert_eq!(
        recipe.get("data.transforms"),
        Some(&json!([
            {"type": "Resize", "size": 64, "interpolation": "bicubic"},
            {"type": "Resize", "size": 32, "interpolation": "bicubic"}
        ]))
    );
    let why = recipe.why("data.transforms.0.size").unwrap();
    assert_eq!(why.len(), 2);
    assert_eq!(why[1].layer, LayerKind::Set(sets[0].to_owned()));
}

#[test]
fn an_argument_of_its_own_stands_above_all_and_is_named_as_it_is_written() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    let sources = Sources {
        environment: vec![("CONVMAE_SEED".to_owned(), "1".to_owned())],
        sets: vec!["seed=2".to_owned()],
        flags: vec![("seed", "3".to_owned())],
        ..files.sources("recipe.yaml")
    };
    let recipe = load(&sources, &catalog()).unwrap();
    assert_eq!(recipe.get("seed"), Some(&json!(3)));
    let why: Vec<_> = recipe.why("seed").unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(why[why.len() - 2..], ["--set seed=2: 2", "--seed 3: 3"]);
    let wrong = Sources { flags: vec![("seed", "three".to_owned())], ..sources };
    let finding = load(&wrong, &catalog()).unwrap_err().findings()[0].to_string();
    assert!(finding.contains("seed: expected an integer"), "{finding}");
}

#[test]
fn the_environment_finds_keys_in_any_case() {
    let text = BASE.replace("  backbone:\n", "  Encoder:\n");
    let files = Files::new(&[("recipe.yaml", &text)]);
    let recipe = files.load("recipe.yaml", &[("CONVMAE_MODEL__ENCODER__NUM_HEADS", "6")], &[]).unwrap();
    assert_eq!(recipe.get("model.Encoder.num_heads"), Some(&json!(6)));
}

#[test]
fn a_base_that_two_bases_share_counts_once() {
    let files = Files::new(&[
        ("root.yaml", BASE),
        ("a.yaml", "extends: root.yaml\nseed: 1\n"),
        ("b.yaml", "extends: root.yaml\nname: b\n"),
        ("recipe.yaml", "extends: [a.yaml, b.yaml]\n"),
    ]);
    let recipe = files.load("recipe.yaml", &[], &[]).unwrap();
    assert_eq!(recipe.get("seed"), Some(&json!(1)));
    assert_eq!(recipe.get("name"), Some(&json!("b")));
}

#[test]
fn aliases_are_copies() {
    let text = BASE.replace("embed_dim: [256, 384, 768]", "embed_dim: &three [2, 2, 11]");
    let value = value(&text.replace("depth: [2, 2, 11]", "depth: *three"));
    assert_eq!(value["model"]["backbone"]["depth"], json!([2, 2, 11]));
}

#[test]
fn a_lock_file_loads_to_the_same_recipe() {
    let text = format!("root: \"$${{HOME}}/{{x}}: yes\"\n{BASE}").replace("1600", "${data.num_classes}");
    let recipe = load_text(&text).unwrap();
    assert_eq!(recipe.get("root"), Some(&json!("${HOME}/{x}: yes")));
    let again = load_text(&recipe.lock_yaml()).unwrap();
    assert_eq!(again.value(), recipe.value());
    assert_eq!(again.lock_yaml(), recipe.lock_yaml());
    assert_eq!(again.digest(), recipe.digest());
    assert_eq!(recipe.get("train.epochs"), Some(&json!(150)));
    insta::assert_snapshot!(recipe.lock_yaml());
}

#[test]
fn the_digest_sees_values_and_not_order() {
    let digest = |text: &str| load_text(text).unwrap().digest();
    let swapped = BASE.replace("name: base\nseed: 0\n", "seed: 0\nname: base\n");
    assert_eq!(digest(BASE), digest(&swapped));
    assert_ne!(digest(BASE), digest(&BASE.replace("seed: 0", "seed: 1")));
}

#[test]
fn a_changed_recipe_is_told_from_its_lock_file() {
    let files = family();
    let before = files.load("pretrain/base.yaml", &[], &[]).unwrap();
    let after =
        files.load("pretrain/base.yaml", &[], &["train.epochs=900", "model.mask.mask_ratio=0.5"]).unwrap();
    let changes: Vec<_> = after.diff(before.value()).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["model.mask.mask_ratio: 0.6 -> 0.5", "train.epochs: 800 -> 900"]);
}

#[test]
fn blocks_become_types_of_the_program() {
    let recipe =
        load_text(&BASE.replace("    type: ConvViT\n", "    type: ConvViT\n    drop_path: 0.5\n")).unwrap();
    let mut block = recipe.get("model.backbone").unwrap().clone();
    block.as_object_mut().unwrap().remove("type");
    let spec: ConvViT = serde_json::from_value(block).unwrap();
    assert!((spec.drop_path - 0.5).abs() < 1e-6);
    let numbers: Vec<usize> = recipe.deserialize("model.backbone.depth").unwrap();
    assert_eq!(numbers, [2, 2, 11]);
    let error = recipe.deserialize::<Vec<usize>>("train.epochs").unwrap_err();
    assert!(
        error.lines()[0].contains(":18:11: train.epochs: invalid type: integer `1600`"),
        "{:?}",
        error.lines()
    );
}

#[test]
fn later_checks_report_by_key() {
    let files = family();
    let recipe = files.load("pretrain/base.yaml", &[("CONVMAE_TRAIN__EPOCHS", "3")], &["seed=3"]).unwrap();
    let problem =
        |key: &str| Problem { key: key.into(), message: "does not fit".into(), help: Some("fit it".into()) };
    let keys =
        ["seed", "train.epochs", "model.backbone", "model.backbone.depth.1", "model.mask.mask_ratio", "a.b"];
    insta::assert_snapshot!(files.report(&recipe.diagnose(keys.map(problem).to_vec())));
}

#[test]
fn paths_of_layers_are_tidy() {
    let files = family();
    let recipe = files.load("pretrain/../pretrain/./base.yaml", &[], &[]).unwrap();
    let layer = recipe.why("name").unwrap().remove(1).layer;
    assert_eq!(layer, LayerKind::File(PathBuf::from(files.path()).join("pretrain/base.yaml")));
}
