//! Mappings: known keys, unknown keys, missing keys.

use serde_json::{Map, Value};

use super::expected::{describe_schemas, first_sentence, plain};
use super::{Check, Fault, Scope, elsewhere, examples};
use crate::catalog::list;
use crate::diagnostics::{Place, Remedy};
use crate::{path, suggest};

impl<'a> Check<'a> {
    pub(super) fn mapping(
        self,
        map: &Map<String, Value>,
        schema: &'a Value,
        key: &str,
        scope: Scope<'a>,
    ) -> Vec<Fault> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").or(schema.get("unevaluatedProperties"));
        let mut faults = Vec::new();
        let mut meant = Vec::new();
        for (name, value) in map {
            let at = path::join(key, name);
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                let found = self.value(value, schema, &at, scope);
                let help = || documentation(schema).map(|about| says(name, schema, &about, scope));
                faults.extend(found.into_iter().map(|fault| fault.or_help(help)));
            } else if others == Some(&Value::Bool(false)) {
                let known: Vec<_> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                let (fault, near) = self.unknown_key(name, &known, key, scope);
                faults.push(fault);
                meant.extend(near);
            } else if let Some(schema) = others {
                match misspelt_block(name, value, map, schema) {
                    Some(near) => faults.push(unknown_block(&at, near)),
                    None => faults.extend(self.value(value, schema, &at, scope)),
                }
            }
        }
        // A misspelt key is one mistake, not an unknown key and a missing one.
        let missing = missing_keys(map, schema).filter(|name| !meant.contains(name));
        faults.extend(missing.map(|name| missing_key(name, properties, key, scope)));
        faults
    }

    /// The fault, and the key that was probably meant.
    fn unknown_key(
        self,
        name: &str,
        known: &[&'a str],
        key: &str,
        scope: Scope<'a>,
    ) -> (Fault, Option<&'a str>) {
        let slot_keys = scope.component.map_or(&[][..], |component| component.slot_keys);
        let known: Vec<_> = known.iter().chain(slot_keys).copied().collect();
        let near = suggest::nearest(name, known.iter().copied());
        let sections = elsewhere::sections(self.catalog, self.recipe, name);
        let owner = match scope.component {
            Some(component) => format!("a key of `{}`", component.name),
            None if key.is_empty() => format!("a key of a {}", self.catalog.subject()),
            None => format!("a key of `{key}`"),
        };
        let called = elsewhere::called(self.catalog, self.recipe, name);
        let help = match (near, sections.as_slice()) {
            (_, []) if let Some((key, schema)) = called => {
                let takes =
                    examples(schema).unwrap_or_else(|| describe_schemas([schema], self.catalog.root()));
                Some(format!("`{name}` is called `{key}` here, and takes {takes}"))
            }
            (Some(near), _) => Some(format!("did you mean `{near}`?")),
            (None, [_, ..]) => Some(format!("`{name}` belongs under {}", suggest::list(&sections))),
            (None, []) if known.is_empty() => Some("nothing can be set here".to_owned()),
            (None, []) => Some(format!("{owner} is one of {}", suggest::list(&known))),
        };
        let fault = Fault::new(path::join(key, name), "unknown key").at(Place::Key);
        let remedy = near.map_or(Remedy::Remove, |near| Remedy::Rename(near.to_owned()));
        (fault.label(format!("not {owner}")).help(help).remedy(remedy), near)
    }
}

/// The block that was meant by a component without a `type`, such as a node of which `--set` misspells the name.
fn misspelt_block<'m>(
    name: &str,
    value: &Value,
    map: &'m Map<String, Value>,
    schema: &Value,
) -> Option<&'m str> {
    if schema.get("x-component").is_none() || !value.is_object() || value.get("type").is_some() {
        return None;
    }
    let whole = map.iter().filter(|(_, other)| other.get("type").is_some()).map(|(other, _)| other.as_str());
    suggest::nearest(name, whole)
}

fn unknown_block(key: &str, near: &str) -> Fault {
    let fault = Fault::new(key, "unknown key, and a block of its own needs a `type`").at(Place::Key);
    fault.remedy(Remedy::Remove).label("no such block").help(format!("did you mean `{near}`?"))
}

/// Required keys that are not there.
pub(super) fn missing_keys<'a>(map: &Map<String, Value>, schema: &'a Value) -> impl Iterator<Item = &'a str> {
    list(schema, "required").filter_map(Value::as_str).filter(|name| !map.contains_key(*name))
}

pub(super) fn missing_key(
    name: &str,
    properties: Option<&Map<String, Value>>,
    key: &str,
    scope: Scope<'_>,
) -> Fault {
    let schema = properties.and_then(|properties| properties.get(name));
    let help = match schema.and_then(|schema| Some((schema, documentation(schema)?))) {
        Some((schema, about)) => says(name, schema, &about, scope),
        None => format!("`{name}` is {}", describe_schemas(schema, scope.document)),
    };
    let of = scope.component.map(|component| format!(" of `{}`", component.name)).unwrap_or_default();
    Fault::new(path::join(key, name), format!("the required key{of} is missing"))
        .at(Place::Missing)
        .label(format!("`{name}` is missing here"))
        .help(help)
}

/// The first sentence of a key's documentation, without its full stop.
fn documentation(schema: &Value) -> Option<String> {
    let sentence = first_sentence(&plain(schema.get("description")?));
    (!sentence.is_empty()).then(|| sentence.trim_end_matches('.').to_owned())
}

/// What a key takes and what it is for.
fn says(name: &str, schema: &Value, about: &str, scope: Scope<'_>) -> String {
    format!("`{name}` is {}: {about}", describe_schemas([schema], scope.document))
}
