//! Where a misplaced key belongs.

use serde_json::{Map, Value};

use crate::catalog::{Catalog, kinds, list, resolve};
use crate::path;

/// How deep sections are searched, and how many are worth naming.
const MAX_DEPTH: usize = 3;
const MAX_SECTIONS: usize = 3;

/// The blocks of this recipe that take a key of this name: sections of the root schema, and the components
/// that the recipe names in them.
pub(super) fn sections(catalog: &Catalog, recipe: &Value, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    Search { catalog, name, found: &mut found }.block(catalog.root(), Some(recipe), "", 0, catalog.root());
    found.truncate(MAX_SECTIONS);
    found
}

/// The key that other frameworks call so: the schema says of it how (`x-called-elsewhere`).
pub(super) fn called(catalog: &Catalog, name: &str) -> Option<String> {
    called_in(catalog.root(), name, "", 0, catalog.root())
}

fn called_in(schema: &Value, name: &str, key: &str, depth: usize, document: &Value) -> Option<String> {
    if list(schema, "x-called-elsewhere").any(|word| word == name) {
        return Some(key.to_owned());
    }
    let schema = resolve(schema, document);
    let properties = schema.get("properties").and_then(Value::as_object).filter(|_| depth < MAX_DEPTH);
    let in_branches = || {
        let branches = list(schema, "anyOf").chain(list(schema, "allOf"));
        branches
            .filter(|_| depth < MAX_DEPTH)
            .find_map(|branch| called_in(branch, name, key, depth + 1, document))
    };
    let mut properties = properties.into_iter().flatten();
    properties
        .find_map(|(own, schema)| called_in(schema, name, &path::join(key, own), depth + 1, document))
        .or_else(in_branches)
}

struct Search<'s> {
    catalog: &'s Catalog,
    name: &'s str,
    found: &'s mut Vec<String>,
}

impl Search<'_> {
    fn block(&mut self, schema: &Value, value: Option<&Value>, key: &str, depth: usize, document: &Value) {
        let schema = resolve(schema, document);
        if let Some(keyword) = schema.get("x-component") {
            let name = value.and_then(|value| value.get("type")).and_then(Value::as_str).unwrap_or_default();
            if let Some(entry) = self.catalog.find(&kinds(keyword), name) {
                self.block(&entry.schema, value, key, depth, &entry.schema);
            }
            return;
        }
        for branch in list(schema, "anyOf").chain(list(schema, "oneOf")).chain(list(schema, "allOf")) {
            if depth < MAX_DEPTH {
                self.block(branch, value, key, depth + 1, document);
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        if properties.is_some_and(|properties| properties.contains_key(self.name)) {
            let top = format!("the top of the {}", self.catalog.subject());
            let place = if key.is_empty() { &top } else { key };
            if !self.found.iter().any(|found| found == place) {
                self.found.push(place.to_owned());
            }
        }
        if depth == MAX_DEPTH {
            return;
        }
        for (name, schema) in properties.into_iter().flatten() {
            let value = value.and_then(|value| value.get(name));
            self.block(schema, value, &path::join(key, name), depth + 1, document);
        }
        if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
            let known = |name: &String| properties.is_some_and(|properties| properties.contains_key(name));
            let members = value.and_then(Value::as_object).into_iter().flat_map(Map::iter);
            for (name, value) in members.filter(|(name, _)| !known(name)) {
                self.block(others, Some(value), &path::join(key, name), depth + 1, document);
            }
        }
    }
}
