//! `convmae schema`: JSON Schema for editors.

use serde_json::{Map, Value, json};

use super::output::{CliError, print};
use crate::component::entries;
use crate::experiment::Experiment;
use crate::graph::block_schema;

/// Where references to definitions start.
const DEFINITIONS: &str = "#/$defs/";

/// What the names of definitions start with that are of a part of something.
const LAYER: &str = "layer.";

/// Print the JSON Schema of recipes, for completion and checks in editors.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the subcommand.
pub fn run(_: &Args) -> Result<(), CliError> {
    let components = entries().into_iter().map(|entry| Component {
        kind: entry.kind.name(),
        name: entry.name,
        schema: block_schema(entry),
    });
    let recipe = schemars::schema_for!(Experiment).to_value();
    print(&format!("{:#}", schema(recipe, components.collect())))
}

/// A component and the schema of its fields.
struct Component {
    kind: &'static str,
    name: &'static str,
    schema: Value,
}

/// The schema of a recipe, with every component's schema in its slots. Standard JSON Schema: our own keywords
/// are resolved.
///
/// The definitions are named after the components; all others have an owner and a dot in front, so that none
/// replaces another.
fn schema(mut root: Value, mut components: Vec<Component>) -> Value {
    let (nodes, mut wiring) = wiring(&root);
    let mut definitions = Map::new();
    move_definitions(&mut root, "recipe", &mut definitions);
    move_definitions(&mut wiring, "node", &mut definitions);
    definitions.insert("recipe.Reference".to_owned(), reference());
    for component in &mut components {
        let mut schema = component.schema.take();
        move_definitions(&mut schema, component.name, &mut definitions);
        let is_node = nodes.contains(&component.kind.into());
        let more = wiring["properties"].as_object().filter(|_| is_node);
        if let Some(schema) = schema.as_object_mut() {
            as_block(schema, component.name, more);
        }
        definitions.insert(component.name.to_owned(), schema);
    }
    root["properties"]["extends"] = json!({
        "description": "Recipes that this one builds on, relative to it.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    let [dialect, title, description] = ["$schema", "title", "description"]
        .map(|keyword| root.as_object_mut().and_then(|root| root.remove(keyword)));
    definitions.insert("recipe".to_owned(), root);
    definitions.values_mut().for_each(|schema| resolve(schema, &components));
    let mut layers = definitions.clone();
    layers.values_mut().for_each(as_layer);
    definitions.extend(layers.into_iter().map(|(name, schema)| (format!("{LAYER}{name}"), schema)));
    json!({
        "$schema": dialect,
        "title": title,
        "description": description,
        "if": { "required": ["name"], "not": { "required": ["extends"] } },
        "then": { "$ref": format!("{DEFINITIONS}recipe") },
        "else": { "$ref": format!("{DEFINITIONS}{LAYER}recipe") },
        "$defs": definitions,
    })
}

/// The schema of what is merged with more of it: where a recipe extends others or, without a name, is there to be extended. No key is
/// required, `type` neither. Items of lists are whole, for lists replace one another.
fn as_layer(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("required");
    // Alternatives that differ in what they require are no longer exclusive.
    if let Some(alternatives) = schema.remove("oneOf") {
        schema.insert("anyOf".to_owned(), alternatives);
    }
    for (keyword, below) in schema {
        match (keyword.as_str(), below) {
            ("$ref", Value::String(to)) => {
                *to = to.replacen(DEFINITIONS, &format!("{DEFINITIONS}{LAYER}"), 1);
            }
            ("anyOf" | "allOf", Value::Array(schemas)) => schemas.iter_mut().for_each(as_layer),
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(as_layer),
            ("additionalProperties", below) => as_layer(below),
            _ => {}
        }
    }
}

/// Moves what a schema defines for itself to the definitions of the whole, as `owner.Name`: names are unique
/// only within a schema.
fn move_definitions(schema: &mut Value, owner: &str, definitions: &mut Map<String, Value>) {
    let own = schema.as_object_mut().and_then(|schema| schema.remove("$defs"));
    qualify(schema, owner);
    if let Some(Value::Object(own)) = own {
        for (name, mut definition) in own {
            qualify(&mut definition, owner);
            definitions.insert(format!("{owner}.{name}"), definition);
        }
    }
}

/// Lets the references of a schema to its own definitions follow these.
fn qualify(schema: &mut Value, owner: &str) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(DEFINITIONS)
            {
                *reference = format!("{DEFINITIONS}{owner}.{name}");
            }
            object.values_mut().for_each(|schema| qualify(schema, owner));
        }
        Value::Array(items) => items.iter_mut().for_each(|schema| qualify(schema, owner)),
        _ => {}
    }
}

/// Turns the schema of a component's fields into that of its block in a recipe: with `type`, and the keys of
/// its slot.
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

/// The kinds of components that are nodes of the model, and the schema of the keys that a node has besides
/// its own.
fn wiring(root: &Value) -> (Vec<Value>, Value) {
    let slot = &root["$defs"]["Nodes"]["additionalProperties"];
    (slot["x-component"].as_array().cloned().unwrap_or_default(), slot["x-extra"].clone())
}

/// What may stand in place of any value.
fn reference() -> Value {
    json!({ "description": "The value of another key.", "type": "string", "pattern": r"\$\{" })
}

/// Replaces every slot by the components that fit, and lets any value be a reference (`${..size}`).
fn resolve(schema: &mut Value, components: &[Component]) {
    match schema {
        Value::Object(object) => {
            object.remove("x-called-elsewhere");
            if let Some(kinds) = object.remove("x-component") {
                object.remove("x-extra");
                object.insert("anyOf".to_owned(), fitting(&kinds, components));
                return;
            }
            object.values_mut().for_each(|schema| resolve(schema, components));
            if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
                properties.values_mut().for_each(or_reference);
            }
            if let Some(items) = object.get_mut("items") {
                or_reference(items);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|schema| resolve(schema, components)),
        _ => {}
    }
}

/// Lets a value be a reference, unless it may be any string, or is the name of a component. What editors show
/// of it stays outside.
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
    outer.insert("anyOf".to_owned(), json!([own, { "$ref": "#/$defs/recipe.Reference" }]));
    *schema = Value::Object(outer);
}

/// References to the components of these kinds.
fn fitting(kinds: &Value, components: &[Component]) -> Value {
    let kinds: Vec<&str> = match kinds {
        Value::String(kind) => vec![kind],
        other => other.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    let refs = components
        .iter()
        .filter(|component| kinds.contains(&component.kind))
        .map(|component| json!({ "$ref": format!("{DEFINITIONS}{}", component.name) }));
    Value::Array(refs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Components that define `Split` and `Sources` for themselves, as the recipe and a node's wiring do;
    /// some are named like definitions of the recipe.
    fn components() -> Vec<Component> {
        let fields = json!({
            "type": "object",
            "properties": { "split": { "$ref": "#/$defs/Split", "default": "train" } },
            "$defs": {
                "Split": { "anyOf": [{ "$ref": "#/$defs/Sources" }, { "type": "null" }] },
                "Sources": { "type": "string", "enum": ["train", "val"] },
            },
        });
        [("dataset", "Scenes"), ("dataset", "Data"), ("backbone", "Split"), ("neck", "Reference")]
            .map(|(kind, name)| Component { kind, name, schema: fields.clone() })
            .into()
    }

    fn recipe() -> Value {
        schemars::schema_for!(Experiment).to_value()
    }

    /// Follows a reference, past the choice of a reference to another key.
    fn target<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
        let schema = schema.pointer("/anyOf/0").unwrap_or(schema);
        match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => target(root, root.pointer(pointer).unwrap_or(&Value::Null)),
            None => schema,
        }
    }

    fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        found.extend(schema["$ref"].as_str());
        match schema {
            Value::Object(object) => object.values().for_each(|schema| references(schema, found)),
            Value::Array(items) => items.iter().for_each(|schema| references(schema, found)),
            _ => {}
        }
    }

    #[test]
    fn merging_replaces_no_definition() {
        let definitions = |schema: &Value| schema["$defs"].as_object().map_or(0, Map::len);
        let (_, wiring) = wiring(&recipe());
        let of_components =
            components().iter().map(|component| 1 + definitions(&component.schema)).sum::<usize>();
        let merged = schema(recipe(), components());
        let whole = definitions(&recipe()) + definitions(&wiring) + 2 + of_components;
        assert_eq!(definitions(&merged), 2 * whole, "each of a whole and of a part");
    }

    #[test]
    fn every_reference_leads_to_a_definition() {
        let merged = schema(recipe(), components());
        let mut found = Vec::new();
        references(&merged, &mut found);
        for reference in found {
            assert!(merged.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_training_set_stays_a_block_with_a_dataset() {
        let merged = schema(recipe(), components());
        let data = target(&merged, &merged["$defs"]["recipe"]["properties"]["data"]);
        let train = target(&merged, &data["properties"]["train"]);
        assert_eq!(train["type"], "object");
        assert!(train["properties"]["dataset"].is_object(), "{train:#}");
    }

    #[test]
    fn components_and_wiring_keep_their_own_definitions() {
        let merged = schema(recipe(), components());
        let node = &merged["$defs"]["Split"]["properties"];
        assert_eq!(target(&merged, &node["split"])["enum"], json!(["train", "val"]));
        let from = &node["from"]["anyOf"][0]["$ref"];
        assert_eq!(from, "#/$defs/node.Sources");
        assert_eq!(merged["$defs"]["Data"]["properties"]["from"], Value::Null);
    }
}
