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
    let (nodes, wiring) = wiring(&root);
    let mut definitions = wiring.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    definitions.insert("Reference".to_owned(), reference());
    for entry in entries() {
        let mut schema = (entry.schema)().to_value();
        // What a component defines for itself moves up: references are from the root.
        if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|schema| schema.remove("$defs")) {
            definitions.extend(own);
        }
        let is_node = nodes.contains(&entry.kind.name().into());
        let more = wiring["properties"].as_object().filter(|_| is_node);
        if let Some(schema) = schema.as_object_mut() {
            as_block(schema, entry.name, more);
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
            definitions.values_mut().for_each(resolve);
            own.extend(definitions);
        }
    }
    root
}

/// Turns the schema of a component's fields into that of its block in a recipe: with `type`, and the keys of its slot.
fn as_block(schema: &mut Map<String, Value>, name: &str, more: Option<&Map<String, Value>>) {
    schema.remove("$schema");
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    properties["type"] = json!({ "const": name });
    if let (Some(properties), Some(more)) = (properties.as_object_mut(), more) {
        properties.extend(more.clone());
    }
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        required.insert(0, json!("type"));
    }
}

/// The kinds of components that are nodes of the model, and the schema of the keys that a node has besides its own.
fn wiring(root: &Value) -> (Vec<Value>, Value) {
    let slot = &root["$defs"]["Nodes"]["additionalProperties"];
    (slot["x-component"].as_array().cloned().unwrap_or_default(), slot["x-extra"].clone())
}

/// What may stand in place of any value.
fn reference() -> Value {
    json!({ "description": "The value of another key.", "type": "string", "pattern": r"\$\{" })
}

/// Replaces every slot by the components that fit, and lets any value be a reference (`${..size}`).
fn resolve(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(kinds) = object.remove("x-component") {
                object.remove("x-extra");
                object.insert("anyOf".to_owned(), components(&kinds));
                return;
            }
            object.values_mut().for_each(resolve);
            if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
                properties.values_mut().for_each(or_reference);
            }
            if let Some(items) = object.get_mut("items") {
                or_reference(items);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(resolve),
        _ => {}
    }
}

/// Lets a value be a reference, unless it may be any string, or is the name of a component. What editors show of it stays outside.
fn or_reference(schema: &mut Value) {
    let Some(own) = schema.as_object_mut() else { return };
    let is_text = own.get("type").is_some_and(|kind| kind == "string") && !own.contains_key("enum");
    if is_text && !own.contains_key("pattern") || own.contains_key("const") {
        return;
    }
    let mut outer = Map::new();
    for keyword in ["description", "default"] {
        outer.extend(own.remove(keyword).map(|value| (keyword.to_owned(), value)));
    }
    outer.insert("anyOf".to_owned(), json!([own, { "$ref": "#/$defs/Reference" }]));
    *schema = Value::Object(outer);
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
