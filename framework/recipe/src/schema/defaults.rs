//! Defaults: what a valid recipe leaves out.
//!
//! They become part of the resolved recipe, so that its lock file says everything about a run: a later
//! version of the program may have other defaults.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::union::meant;
use super::{Check, Component, Scope};
use crate::catalog::{Catalog, item_schema, kinds, list, resolve, target};
use crate::path;

/// Writes the defaults of absent keys into a valid recipe: after the keys that are there, in the order of the
/// schema.
///
/// Returns the keys it wrote, and what each is a key of: a component, or else a block.
pub(crate) fn fill(recipe: &mut Value, catalog: &Catalog) -> HashMap<String, String> {
    let scope = Scope { document: catalog.root(), component: None };
    let mut fill = Fill { catalog, written: HashMap::new() };
    fill.value(recipe, catalog.root(), "", scope);
    fill.written
}

struct Fill<'a> {
    catalog: &'a Catalog,
    written: HashMap<String, String>,
}

impl<'a> Fill<'a> {
    fn value(&mut self, value: &mut Value, schema: &'a Value, key: &str, scope: Scope<'a>) {
        if let Some(keyword) = schema.get("x-component") {
            return self.slot(value, keyword, schema.get("x-extra"), key, scope);
        }
        for schema in target(schema, scope.document).into_iter().chain(list(schema, "allOf")) {
            self.value(value, schema, key, scope);
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(branch) = meant(value, list(schema, union), scope.document) {
                self.value(value, branch, key, scope);
            }
        }
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(schema) = item_schema(schema, index) {
                        self.value(item, schema, &path::join(key, index), scope);
                    }
                }
            }
            Value::Object(map) => self.mapping(map, schema, key, scope),
            _ => {}
        }
    }

    fn slot(
        &mut self,
        value: &mut Value,
        keyword: &Value,
        extra: Option<&'a Value>,
        key: &str,
        scope: Scope<'a>,
    ) {
        let name = value.get("type").and_then(Value::as_str).unwrap_or_default();
        let catalog = self.catalog;
        if let Some(entry) = catalog.find(&kinds(keyword), name) {
            let component = Component { name: &entry.name, slot_keys: &[] };
            let scope = Scope { document: &entry.schema, component: Some(component) };
            self.value(value, &entry.schema, key, scope);
        }
        if let (Some(extra), Value::Object(map)) = (extra, value) {
            self.mapping(map, extra, key, scope);
        }
    }

    fn mapping(&mut self, map: &mut Map<String, Value>, schema: &'a Value, key: &str, scope: Scope<'a>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").or(schema.get("unevaluatedProperties"));
        for (name, value) in map.iter_mut() {
            let own = properties.and_then(|properties| properties.get(name));
            if let Some(schema) = own.or(others) {
                self.value(value, schema, &path::join(key, name), scope);
            }
        }
        for (name, schema) in properties.into_iter().flatten().filter(|(_, schema)| schema.is_object()) {
            if map.contains_key(name) {
                continue;
            }
            let at = path::join(key, name);
            if let Some(mut default) = self.default(schema, &at, scope) {
                self.value(&mut default, schema, &at, scope);
                map.insert(name.clone(), default);
                let block = if key.is_empty() { "the recipe" } else { key };
                let owner = scope.component.map_or(block, |component| component.name);
                self.written.insert(at, owner.to_owned());
            }
        }
    }

    /// The default, unless a recipe may not say it: 0 for "chosen by the component", where 1 is the least.
    fn default(&self, schema: &'a Value, key: &str, scope: Scope<'a>) -> Option<Value> {
        let default = as_written(schema.get("default")?, schema, scope.document);
        let check = Check { catalog: self.catalog, recipe: &Value::Null, broken: &HashSet::new() };
        check.value(&default, schema, key, scope).is_empty().then_some(default)
    }
}

/// A default as one would write it. An `f32` of 0.485 is 0.48500001430511475 in a schema, which as a value of
/// a recipe would differ from 0.485.
fn as_written(default: &Value, schema: &Value, document: &Value) -> Value {
    let schema = resolve(schema, document);
    match default {
        Value::Array(items) => {
            let item = |(index, item)| match item_schema(schema, index) {
                Some(schema) => as_written(item, schema, document),
                None => Value::clone(item),
            };
            Value::Array(items.iter().enumerate().map(item).collect())
        }
        Value::Number(number) if schema.get("format").is_some_and(|format| format == "float") => {
            shortest(number.as_f64()).map_or_else(|| default.clone(), Value::from)
        }
        other => other.clone(),
    }
}

/// The number with the fewest digits that is the same `f32`.
fn shortest(number: Option<f64>) -> Option<f64> {
    let single = number? as f32;
    let short: f64 = single.to_string().parse().ok()?;
    (short as f32).total_cmp(&single).is_eq().then_some(short)
}
