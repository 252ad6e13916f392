//! An example of each component.

use serde_json::{Map, Value, json};

use crate::component::{Entry, entries};

/// A component with every field: required ones with an example of a value, the others with their defaults.
/// Fields that are off by default are left out, unless their documentation has an example.
pub fn example(entry: &Entry) -> Value {
    let schema = (entry.schema)().to_value();
    let required = required(&schema);
    let mut component = Map::from_iter([("type".to_owned(), json!(entry.name))]);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let value = match field.get("default") {
            _ if required.contains(&name.as_str()) => value_of(field, &schema),
            None | Some(Value::Null) if field.get("examples").is_some() => value_of(field, &schema),
            Some(default) => default.clone(),
            None => Value::Null,
        };
        if !value.is_null() {
            component.insert(name.clone(), value);
        }
    }
    Value::Object(component)
}

/// The names of a schema's required fields.
pub(super) fn required(schema: &Value) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Some value that a schema allows: the first of its examples, or one by its type.
fn value_of(schema: &Value, root: &Value) -> Value {
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    if let Some(target) = schema["$ref"].as_str().and_then(|reference| root.pointer(&reference[1..])) {
        return value_of(target, root);
    }
    if let Some(kind) = schema["x-component"].as_str() {
        return simplest(kind);
    }
    let branches = ["anyOf", "oneOf"].into_iter().filter_map(|union| schema[union].get(0));
    if let Some(branch) = branches.into_iter().next() {
        return value_of(branch, root);
    }
    if let Some(value) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    match schema["type"].as_str() {
        Some("integer") => json!(10),
        Some("number") => json!(0.001),
        Some("boolean") => json!(true),
        Some("array") => {
            let items = schema["minItems"].as_u64().unwrap_or(1) as usize;
            json!(vec![value_of(&schema["items"], root); items])
        }
        Some("string") => json!("text"),
        _ => json!({}),
    }
}

/// The component of a kind that needs the fewest fields.
fn simplest(kind: &str) -> Value {
    let of_kind = entries().into_iter().filter(|entry| entry.kind.name() == kind);
    let simplest = of_kind.min_by_key(|entry| required(&(entry.schema)().to_value()).len());
    simplest.map_or(Value::Null, |entry| json!({ "type": entry.name }))
}
