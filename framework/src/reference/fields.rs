//! The fields of a component or of a block of recipes: types, defaults, documentation.

use serde_json::Value;

use super::example::required;
use super::yaml::flow;

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// Its type and range in words: `number, 0 to 1`, `list of 3 x integer`, `sparse | dense`.
    pub kind: String,
    /// `required`, `default 0.75` or `optional`.
    pub presence: String,
    /// What it is for, one or more lines.
    pub about: String,
    /// The words it may have, if those are all it may have.
    pub choices: Vec<Choice>,
}

/// A word that a field may have.
#[derive(Debug)]
pub struct Choice {
    /// The word.
    pub word: String,
    /// What it means.
    pub about: String,
}

/// The fields of a schema. `$ref`s are paths in `root`.
pub fn fields(schema: &Value, root: &Value) -> Vec<Field> {
    let required = required(schema);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, field): (&String, &Value)| Field {
        name: name.clone(),
        kind: type_of(field, root),
        presence: match field.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(default) if !default.is_null() => format!("default {}", flow(default)),
            _ => "optional".to_owned(),
        },
        about: field["description"].as_str().unwrap_or_default().to_owned(),
        choices: choices(field, root),
    };
    properties.map(field).collect()
}

/// What a `$ref` names, or the schema itself.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    target.map_or(schema, |target| resolve(target, root))
}

fn choices(field: &Value, root: &Value) -> Vec<Choice> {
    let choice = |branch: &Value| {
        let word = branch["const"].as_str()?.to_owned();
        Some(Choice { word, about: branch["description"].as_str().unwrap_or_default().to_owned() })
    };
    resolve(field, root)["oneOf"].as_array().into_iter().flatten().filter_map(choice).collect()
}

/// The type of a field in words.
fn type_of(field: &Value, root: &Value) -> String {
    let field = resolve(field, root);
    if let Some(kind) = field["x-component"].as_str() {
        return kind.to_owned();
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(branches) = field[key].as_array() {
            let branches = branches.iter().filter(|branch| branch["type"] != "null");
            return branches.map(|branch| type_of(branch, root)).collect::<Vec<_>>().join(" | ");
        }
    }
    if let Some(values) = field["enum"].as_array() {
        return values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = field["const"].as_str() {
        return value.to_owned();
    }
    if let Some(types) = field["type"].as_array() {
        let types = types.iter().filter_map(Value::as_str).filter(|name| *name != "null");
        return format!("{}{}", types.collect::<Vec<_>>().join(" | "), range(field));
    }
    match field["type"].as_str().unwrap_or("anything") {
        "array" => {
            let count = match (field["minItems"].as_u64(), field["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => format!("{least} x "),
                (Some(least), _) => format!("at least {least} x "),
                _ => String::new(),
            };
            format!("list of {count}{}", type_of(&field["items"], root))
        }
        "object" => "mapping".to_owned(),
        name => format!("{name}{}", range(field)),
    }
}

fn range(field: &Value) -> String {
    let limit = |keyword: &str| field[keyword].as_f64();
    match (limit("minimum"), limit("exclusiveMinimum"), limit("maximum")) {
        (Some(least), _, Some(most)) => format!(", {least} to {most}"),
        (None, Some(least), Some(most)) => format!(", above {least}, up to {most}"),
        (Some(least), _, None) => format!(", at least {least}"),
        (None, Some(least), None) => format!(", above {least}"),
        (None, None, Some(most)) => format!(", at most {most}"),
        (None, None, None) => String::new(),
    }
}
