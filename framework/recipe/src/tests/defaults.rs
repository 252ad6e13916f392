//! Defaults of keys that a recipe leaves out.

use serde_json::{Value, json};

use super::super::{Catalog, CatalogEntry, Recipe, Sources, load};
use super::{BASE, Files, load_text, value};

/// A recipe of these keys alone, `slot` a component `Crop` with the given schema.
fn load_with(properties: &Value, crop: &Value, text: &str) -> Recipe {
    let root = json!({
        "type": "object",
        "properties": properties,
        "$defs": {
            "Every": {"type": "object", "properties": {"every": {"type": "integer", "default": 3}}},
            "Decay": {"oneOf": [
                {"type": "object", "required": ["kind"],
                    "properties": {"kind": {"const": "step"}, "gamma": {"type": "number", "default": 0.1}}},
                {"type": "object", "required": ["kind"],
                    "properties": {"kind": {"const": "cosine"}, "floor": {"type": "number", "default": 0.0}}}
            ]}
        }
    });
    let entry = CatalogEntry { kind: "transform".into(), name: "Crop".into(), schema: crop.clone() };
    let files = Files::new(&[("recipe.yaml", text)]);
    let sources = Sources { recipe: files.path().join("recipe.yaml"), ..Sources::default() };
    load(&sources, &Catalog::new(vec![entry], root)).unwrap()
}

fn filled(properties: &Value, text: &str) -> Value {
    load_with(properties, &json!({}), text).value().clone()
}

#[test]
fn defaults_come_after_the_written_keys_in_the_order_of_the_schema() {
    let recipe = load_text(BASE).unwrap();
    let keys = |key: &str| recipe.get(key).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys("train"), ["epochs", "amp"]);
    assert_eq!(keys("model.backbone"), ["type", "embed_dim", "depth", "num_heads", "drop_path", "window"]);
    assert_eq!(recipe.get("train.amp"), Some(&json!(false)));
    assert_eq!(recipe.get("data.transforms.0.interpolation"), Some(&json!("bicubic")));
}

#[test]
fn writing_a_default_changes_neither_recipe_nor_digest() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    let before = files.load("recipe.yaml", &[], &[]).unwrap();
    let sets = ["train.amp=false", "data.transforms.1.p=0.0", "model.backbone.window=null"];
    let after = files.load("recipe.yaml", &[], &sets).unwrap();
    assert_eq!(after.diff(before.value()), []);
    assert_eq!(after.digest(), before.digest());
}

#[test]
fn a_lock_file_keeps_the_defaults_of_its_time() {
    let every = |default: usize| json!({"every": {"type": "integer", "default": default}});
    let old = load_with(&every(1), &json!({}), "{}");
    let new = load_with(&every(2), &json!({}), &old.lock_yaml());
    assert_eq!((old.value(), new.value()), (&json!({"every": 1}), &json!({"every": 1})));
}

#[test]
fn blocks_behind_references_and_nullable_ones_are_filled() {
    let every = json!({"$ref": "#/$defs/Every"});
    let properties = json!({
        "a": every,
        "b": {"anyOf": [every, {"type": "null"}]},
        "c": {"anyOf": [every, {"type": "null"}]},
        "d": {"$ref": "#/$defs/Every", "default": {}},
        "e": {"type": "array", "items": every},
        "f": {"type": "object", "additionalProperties": every}
    });
    let text = "a: {}\nb: {}\nc: null\ne: [{}, { every: 1 }]\nf: { x: {} }\n";
    let expected = json!({
        "a": {"every": 3}, "b": {"every": 3}, "c": null, "e": [{"every": 3}, {"every": 1}],
        "f": {"x": {"every": 3}}, "d": {"every": 3}
    });
    assert_eq!(filled(&properties, text), expected);
}

#[test]
fn the_tag_of_an_enum_decides_which_defaults_hold() {
    let properties = json!({"decay": {"anyOf": [{"$ref": "#/$defs/Decay"}, {"type": "null"}]}});
    assert_eq!(
        filled(&properties, "decay: { kind: cosine }"),
        json!({"decay": {"kind": "cosine", "floor": 0.0}})
    );
}

#[test]
fn a_block_that_may_be_two_things_is_left_as_it_is() {
    let branch = |name: &str| json!({"type": "object", "properties": {name: {"default": 1}}});
    let properties = json!({"either": {"anyOf": [branch("a"), branch("b")]}});
    assert_eq!(filled(&properties, "either: {}"), json!({"either": {}}));
}

#[test]
fn slots_take_the_defaults_of_the_component_and_their_own() {
    let slot = json!({"x-component": "transform", "x-extra": {"properties": {"prefix": {"default": ""}}}});
    let crop = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"mode": {"$ref": "#/$defs/Mode", "default": "near"}, "size": {"type": "integer", "default": 5}},
        "$defs": {"Mode": {"enum": ["near", "far"]}}
    });
    let properties = json!({"nodes": {"type": "array", "items": slot}});
    let recipe = load_with(&properties, &crop, "nodes: [{ size: 1, type: Crop }]");
    let expected = json!({"nodes": [{"size": 1, "type": "Crop", "mode": "near", "prefix": ""}]});
    assert_eq!(recipe.value(), &expected);
    assert_eq!(load_with(&properties, &crop, &recipe.lock_yaml()).value(), &expected);
}

#[test]
fn a_single_precision_default_is_written_with_its_own_digits() {
    let float = json!({"type": "number", "format": "float"});
    let properties = json!({
        "mean": {"type": "array", "items": float, "default": [f64::from(0.485_f32), 1.0]},
        "exact": {"type": "number", "format": "double", "default": f64::from(0.485_f32)}
    });
    assert_eq!(filled(&properties, "{}"), json!({"mean": [0.485, 1.0], "exact": f64::from(0.485_f32)}));
}

#[test]
fn a_default_that_may_not_be_written_stays_out() {
    let properties = json!({
        "threads": {"type": "integer", "minimum": 1, "default": 0},
        "limit": {"type": "number", "default": null},
        "window": {"type": ["integer", "null"], "default": null}
    });
    assert_eq!(filled(&properties, "{}"), json!({"window": null}));
}

#[test]
fn why_says_that_a_default_holds() {
    let files = Files::new(&[("recipe.yaml", BASE)]);
    let recipe = files.load("recipe.yaml", &[], &[]).unwrap();
    let why = |key: &str| recipe.why(key).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(why("model.backbone.drop_path"), ["default of ConvViT: 0.0"]);
    assert_eq!(why("train.amp"), ["default of train: false"]);

    let recipe = files.load("recipe.yaml", &[], &["model.backbone.type=Vit"]).unwrap();
    let why = recipe.why("model.backbone.depth").unwrap();
    assert_eq!(why.last().unwrap().to_string(), "default of Vit: 0");

    let properties = json!({"d": {"$ref": "#/$defs/Every", "default": {"every": 4}}});
    let recipe = load_with(&properties, &json!({}), "{}");
    assert_eq!(recipe.why("d.every").unwrap()[0].to_string(), "default of the recipe: 4");
}

#[test]
fn references_copy_blocks_before_defaults_are_filled() {
    let text = BASE.replace("- type: Flip", "- ${data.transforms.0}");
    let transforms = &value(&text)["data"]["transforms"];
    assert_eq!(transforms[0], transforms[1]);
    assert_eq!(transforms[1]["interpolation"], "bicubic");
}
