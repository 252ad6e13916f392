//! The resolved recipe as a file, and its digest.

use serde_json::{Map, Value};

use super::reference;

/// YAML that loads to this value: block style, keys in their order, `${` escaped.
pub fn yaml(value: &Value) -> String {
    // A tree of JSON values always serialises: keys are strings and numbers are finite.
    serde_yaml::to_string(&escaped(value)).unwrap_or_default()
}

fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(reference::escape(text)),
        Value::Array(items) => Value::Array(items.iter().map(escaped).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), escaped(value))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The value of a lock file, without checking it.
pub fn parse(text: &str) -> Result<Value, serde_yaml::Error> {
    Ok(unescaped(serde_yaml::from_str(text)?))
}

fn unescaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(reference::unescape(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(unescaped).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, unescaped(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// blake3 of the value as JSON without spaces, keys sorted.
pub fn digest(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    blake3::hash(sorted.to_string().as_bytes()).to_hex().to_string()
}
