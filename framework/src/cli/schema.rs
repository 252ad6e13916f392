//! `convmae schema`: JSON Schema for editors.

use serde_json::{Map, Value, json};

use super::{CliError, print};
use crate::component::{Kind, entries};
use crate::experiment::Experiment;

/// Print the JSON Schema of recipes, for completion and checks in editors.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the subcommand.
pub fn run(_: &Args) -> Result<(), CliError> {
    print(&format!("{:#}", schema()))
}

/// The schema of a recipe, with every component's schema in its slots. Standard JSON Schema: our own keywords are resolved.
fn schema() -> Value {
    let mut root = schemars::schema_for!(Experiment).to_value();
    let mut definitions = Map::new();
    for entry in entries() {
        let mut schema = (entry.schema)().to_value();
        // What a component defines for itself moves up: references are from the root.
        if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|schema| schema.remove("$defs")) {
            definitions.extend(own);
        }
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$schema");
            let properties = schema.entry("properties").or_insert_with(|| json!({}));
            properties["type"] = json!({ "const": entry.name });
            let required = schema.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                required.insert(0, json!("type"));
            }
        }
        definitions.insert(entry.name.to_owned(), schema);
    }
    root["properties"]["extends"] = json!({
        "description": "Recipes that this one builds on, relative to it.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    resolve(&mut root);
    // A recipe that extends another one need not repeat what is there.
    if let Some(root) = root.as_object_mut() {
        root.remove("required");
        let own = root.entry("$defs").or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            own.values_mut().for_each(resolve);
            definitions.values_mut().for_each(resolve);
            own.extend(definitions);
        }
    }
    root
}

/// Replaces every slot by the components that fit, and lets any value be a reference (`${..size}`).
fn resolve(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(kinds) = object.remove("x-component") {
                object.clear();
                object.insert("anyOf".to_owned(), components(&kinds));
                return;
            }
            object.values_mut().for_each(resolve);
        }
        Value::Array(items) => items.iter_mut().for_each(resolve),
        _ => {}
    }
}

fn components(kinds: &Value) -> Value {
    let kinds: Vec<&str> = match kinds {
        Value::String(kind) => vec![kind],
        other => other.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let fits = |kind: Kind| kinds.contains(&kind.name());
    let refs = entries()
        .into_iter()
        .filter(|entry| fits(entry.kind))
        .map(|entry| json!({ "$ref": format!("#/$defs/{}", entry.name) }));
    Value::Array(refs.collect())
}
