//! What is registered is complete: names, documentation, defaults, schema.

use std::collections::BTreeSet;

use convmae_framework::component::{
    Backbone, BatchTransform, Dataset, Entry, Evaluator, Head, Inference, InstanceHead, Kind, Masker, Neck,
    Optimizer, Schedule, Transform, entries,
};
use convmae_framework::reference::example;
use serde_json::{Map, Value, json};

use crate::support::{Folder, stdout};

type Error = serde_json::Error;

/// A component from JSON, by its kind, and back to JSON.
fn round_trip(kind: Kind, component: Value) -> Result<Value, Error> {
    macro_rules! through {
        ($trait:ident) => {
            serde_json::to_value(serde_json::from_value::<Box<dyn $trait>>(component)?)
        };
    }
    match kind {
        Kind::Dataset => through!(Dataset),
        Kind::Transform => through!(Transform),
        Kind::BatchTransform => through!(BatchTransform),
        Kind::Masker => through!(Masker),
        Kind::Backbone => through!(Backbone),
        Kind::Neck => through!(Neck),
        Kind::Head => through!(Head),
        Kind::InstanceHead => through!(InstanceHead),
        Kind::Optimizer => through!(Optimizer),
        Kind::Schedule => through!(Schedule),
        Kind::Evaluator => through!(Evaluator),
        Kind::Inference => through!(Inference),
    }
}

/// The names that typetag knows, from its complaint about one that it does not.
fn typetag_names(kind: Kind) -> BTreeSet<String> {
    let complaint = round_trip(kind, json!({ "type": "?" })).unwrap_err().to_string();
    complaint.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn of_kind(kind: Kind) -> impl Iterator<Item = &'static Entry> {
    entries().into_iter().filter(move |entry| entry.kind == kind)
}

#[test]
fn every_component_is_registered_and_everything_registered_is_a_component() {
    for kind in Kind::ALL {
        let registered: BTreeSet<_> = of_kind(kind).map(|entry| entry.name.to_owned()).collect();
        assert!(!registered.is_empty(), "there is no {kind}");
        assert_eq!(typetag_names(kind), registered, "left: typetag, right: `register!`");
    }
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = entries().iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), entries().len());
}

fn properties(schema: &Value) -> Map<String, Value> {
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

#[test]
fn every_component_and_every_field_is_documented() {
    let is_documented = |schema: &Value| schema["description"].as_str().is_some_and(|text| text.len() > 5);
    for entry in entries() {
        let schema = (entry.schema)().to_value();
        assert!(is_documented(&schema), "{} has no docs", entry.name);
        assert_eq!(schema["additionalProperties"], false, "{}: `deny_unknown_fields` is missing", entry.name);
        for (field, schema) in properties(&schema) {
            assert!(is_documented(&schema), "{}.{field} has no docs", entry.name);
        }
    }
}

/// Not one cut at the full stop of `et al.`, nor at one within brackets.
#[test]
fn list_says_a_whole_sentence_of_every_component() {
    let listed = stdout(&Folder::new().succeeds(["list", "--json"]));
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.len(), entries().len());
    for component in listed {
        let summary = component["summary"].as_str().unwrap();
        assert!(summary.ends_with('.') && !summary.ends_with("al."), "{component}");
        assert_eq!(summary.matches('(').count(), summary.matches(')').count(), "{component}");
    }
}

#[test]
fn every_example_of_the_reference_is_a_component() {
    for entry in entries() {
        let written = example(entry);
        round_trip(entry.kind, written.clone()).unwrap_or_else(|error| panic!("{written}: {error}"));
    }
}

#[test]
fn defaults_in_the_schema_are_those_of_serde() {
    for entry in entries() {
        let schema = (entry.schema)().to_value();
        let mut given = Map::from_iter([("type".to_owned(), json!(entry.name))]);
        for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            given.insert(field.to_owned(), example(entry)[field].clone());
        }
        let built = round_trip(entry.kind, Value::Object(given.clone()))
            .unwrap_or_else(|error| panic!("{} from {given:?}: {error}", entry.name));
        for (field, of_schema) in properties(&schema) {
            if given.contains_key(&field) {
                continue;
            }
            // Left out of the schema where it is null.
            let stated = of_schema.get("default").unwrap_or(&Value::Null);
            assert_eq!(stated, &built[&field], "{}.{field}: left schema, right serde", entry.name);
        }
    }
}

#[test]
fn every_component_can_be_described() {
    let folder = Folder::new();
    for entry in entries() {
        let text = stdout(&folder.succeeds(["describe", entry.name]));
        for field in properties(&(entry.schema)().to_value()).keys() {
            assert!(text.contains(&format!("\n  {field}: ")), "{field} of {text}");
        }
        assert!(!text.contains("anything"), "a field without a type: {text}");
    }
    folder.fails(["describe", "ConvVit"], 2, &["there is no component `ConvVit`", "did you mean `ConvViT`?"]);
    folder.fails(["describe", "xyzzy"], 2, &["`convmae list` names all components"]);
}

#[test]
fn every_head_and_nothing_else_has_a_weight_and_may_be_auxiliary() {
    let folder = Folder::new();
    for entry in entries() {
        let text = stdout(&folder.succeeds(["describe", entry.name]));
        for line in ["loss_weight: number, at least 0 (default 1.0)", "auxiliary: boolean (default false)"] {
            let is_head = [Kind::Head, Kind::InstanceHead].contains(&entry.kind);
            assert_eq!(text.contains(&format!("\n  {line}\n")), is_head, "{line}: {text}");
        }
    }
    folder.succeeds([
        "check",
        "tiny.yaml",
        "--set",
        "model.decoder.auxiliary=true",
        "--set",
        "evaluate.evaluators=[]",
    ]);
    let mistakes = [
        (
            "model.decoder.loss_weight=-1",
            "model.decoder.loss_weight: -1 is out of range: it must be at least 0",
        ),
        ("model.decoder.auxiliary=3", "model.decoder.auxiliary: expected"),
        ("model.backbone.loss_weight=1", "model.backbone.loss_weight: unknown key"),
    ];
    for (set, message) in mistakes {
        folder.fails(["check", "tiny.yaml", "--set", set], 2, &[message]);
    }
}

/// The keywords of JSON Schema 2020-12 that we write. Those whose value is a schema, a list or a mapping of
/// schemas come first.
const SCHEMA: [&str; 6] = ["items", "additionalProperties", "if", "then", "else", "not"];
const SCHEMAS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
const NAMED_SCHEMAS: [&str; 2] = ["properties", "$defs"];
const OTHER: [&str; 20] = [
    "$schema",
    "$ref",
    "title",
    "description",
    "type",
    "required",
    "default",
    "const",
    "enum",
    "examples",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "minProperties",
    "exclusiveMinimum",
    "deprecated",
];

fn check_keywords(schema: &Value, root: &Value, path: &str) {
    let Some(keywords) = schema.as_object() else {
        assert!(schema == false && path.ends_with("additionalProperties"), "{path} is no schema: {schema}");
        return;
    };
    for (keyword, value) in keywords {
        let path = format!("{path}/{keyword}");
        let name = keyword.as_str();
        if SCHEMA.contains(&name) {
            check_keywords(value, root, &path);
        } else if SCHEMAS.contains(&name) {
            value.as_array().unwrap().iter().for_each(|schema| check_keywords(schema, root, &path));
        } else if NAMED_SCHEMAS.contains(&name) {
            let named = value.as_object().unwrap();
            named.iter().for_each(|(name, schema)| check_keywords(schema, root, &format!("{path}/{name}")));
        } else {
            assert!(OTHER.contains(&name), "{path} is no keyword of JSON Schema");
        }
        if name == "$ref" {
            let target = value.as_str().unwrap();
            assert!(root.pointer(&target[1..]).is_some(), "{path} leads nowhere: {target}");
        }
    }
}

#[test]
fn the_schema_of_recipes_is_standard_json_schema() {
    let schema: Value = serde_json::from_str(&stdout(&Folder::new().succeeds(["schema"]))).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    check_keywords(&schema, &schema, "#");
    for entry in entries() {
        assert!(schema["$defs"][entry.name].is_object(), "{} is not in it", entry.name);
    }
}

/// What a node of the model may have besides the keys of its component.
#[test]
fn the_schema_lets_a_node_have_its_wiring() {
    let schema: Value = serde_json::from_str(&stdout(&Folder::new().succeeds(["schema"]))).unwrap();
    let branches = schema["$defs"]["recipe.Nodes"]["additionalProperties"]["anyOf"].as_array().unwrap();
    assert!(branches.len() >= 6, "{branches:?}");
    for branch in branches {
        let node = schema.pointer(&branch["$ref"].as_str().unwrap()[1..]).unwrap();
        assert!(node["properties"]["from"].is_object() && node["properties"]["prefix"].is_object(), "{node}");
        assert_eq!(node["additionalProperties"], false, "{node}");
    }
}
