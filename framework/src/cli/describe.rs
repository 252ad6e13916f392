//! `convmae describe`: the fields of a component.

use std::fmt::Write as _;

use serde_json::Value;

use super::{CliError, print};
use crate::component::{Entry, entries, entry};

/// Describe a component: what it does, its fields, their types and defaults.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of the component, as in `type:`.
    #[arg(value_name = "TYPE")]
    component: String,
    /// Print its JSON schema.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let Some(entry) = entry(&args.component) else { return Err(unknown(&args.component)) };
    let schema = (entry.schema)().to_value();
    if args.json {
        return print(&format!("{schema:#}"));
    }
    print(&describe(entry, &schema))
}

fn unknown(name: &str) -> CliError {
    let nearest = entries()
        .into_iter()
        .map(|entry| (strsim::jaro_winkler(&entry.name.to_lowercase(), &name.to_lowercase()), entry.name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    let help = match nearest {
        Some((_, nearest)) => format!("did you mean `{nearest}`?"),
        None => "`convmae list` names all components".to_owned(),
    };
    CliError::Usage { message: format!("there is no component `{name}`"), help: Some(help) }
}

fn describe(entry: &Entry, schema: &Value) -> String {
    let mut text = format!("{} ({})\n", entry.name, entry.kind);
    if let Some(description) = schema["description"].as_str() {
        let _ = write!(text, "\n{description}\n");
    }
    let empty = serde_json::Map::new();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().unwrap_or(&empty) {
        let default = match field.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(default) => format!("default {default}"),
            None => "optional".to_owned(),
        };
        let _ = write!(text, "\n  {name}: {} ({default})\n", type_of(field, schema));
        for line in field["description"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

/// The type of a field in words: `number, 0 to 1`, `list of 3 integers`, `sparse | dense`.
fn type_of(field: &Value, root: &Value) -> String {
    if let Some(reference) = field["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return type_of(&root["$defs"][name], root);
    }
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
        name => format!("{name}{}", range(field)),
    }
}

fn range(field: &Value) -> String {
    match (field["minimum"].as_f64(), field["maximum"].as_f64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}
