//! Where a misplaced key belongs, and what a key of another framework is called here.

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
    for (key, _) in search(catalog, recipe, &|own, _| own == name) {
        let block = match path::split_last(&key) {
            Some((block, _)) if !block.is_empty() => block.to_owned(),
            _ => format!("the top of the {}", catalog.subject()),
        };
        if !found.contains(&block) {
            found.push(block);
        }
    }
    found.truncate(MAX_SECTIONS);
    found
}

/// The key of this recipe that other frameworks call so, and its schema, which says how (`x-called-elsewhere`).
pub(super) fn called<'c>(catalog: &'c Catalog, recipe: &Value, name: &str) -> Option<(String, &'c Value)> {
    let is_it = |_: &str, schema: &Value| list(schema, "x-called-elsewhere").any(|word| word == name);
    search(catalog, recipe, &is_it).into_iter().next()
}

/// The keys that a recipe may have, as its components are, and that are wanted, each with its schema.
fn search<'c>(
    catalog: &'c Catalog,
    recipe: &Value,
    is_wanted: &dyn Fn(&str, &Value) -> bool,
) -> Vec<(String, &'c Value)> {
    let mut search = Search { catalog, is_wanted, found: Vec::new() };
    search.block(catalog.root(), Some(recipe), "", 0, catalog.root());
    search.found
}

struct Search<'c, 's> {
    catalog: &'c Catalog,
    is_wanted: &'s dyn Fn(&str, &Value) -> bool,
    found: Vec<(String, &'c Value)>,
}

impl<'c> Search<'c, '_> {
    fn block(
        &mut self,
        schema: &'c Value,
        value: Option<&Value>,
        key: &str,
        depth: usize,
        document: &'c Value,
    ) {
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
        for (name, schema) in properties.into_iter().flatten() {
            if (self.is_wanted)(name, schema) {
                self.found.push((path::join(key, name), schema));
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
