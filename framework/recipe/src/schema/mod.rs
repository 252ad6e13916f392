//! Checks a resolved recipe against the schemas of the catalog, says what is wrong in words, and fills in the
//! defaults.
//!
//! The part of JSON Schema that schemars 1 writes, read for its messages: a union names the branch that was
//! most likely meant, an unknown key the one it resembles or the section it belongs to.

mod component;
mod defaults;
mod elsewhere;
mod expected;
mod mapping;
mod union;

use std::collections::HashSet;

use serde_json::Value;

use super::catalog::{Catalog, item_schema, list, target};
use super::diagnostics::Fault;
use super::{path, suggest};
pub(super) use defaults::fill;
pub use expected::{article, first_sentence};
use expected::{describe, describe_type, matches_type};

/// Everything wrong with a recipe. Paths in `broken` hold a placeholder for a value whose fault is known
/// already.
pub(super) fn check(recipe: &Value, catalog: &Catalog, broken: &HashSet<String>) -> Vec<Fault> {
    let scope = Scope { document: catalog.root(), component: None };
    Check { catalog, recipe, broken }.value(recipe, catalog.root(), "", scope)
}

/// What a check needs to know besides the value and its schema.
#[derive(Clone, Copy)]
struct Check<'a> {
    catalog: &'a Catalog,
    recipe: &'a Value,
    broken: &'a HashSet<String>,
}

/// Where a schema comes from.
#[derive(Clone, Copy)]
struct Scope<'a> {
    /// `$ref`s are paths in this document.
    document: &'a Value,
    /// The component whose keys are checked.
    component: Option<Component<'a>>,
}

/// A component whose keys are checked, and the keys that its slot takes besides its own.
#[derive(Clone, Copy)]
struct Component<'a> {
    name: &'a str,
    slot_keys: &'a [&'a str],
}

impl<'a> Check<'a> {
    /// Checks a value against a schema.
    fn value(self, value: &Value, schema: &'a Value, key: &str, scope: Scope<'a>) -> Vec<Fault> {
        if self.broken.contains(key) {
            return Vec::new();
        }
        let Some(keywords) = schema.as_object() else {
            let refused = schema == &Value::Bool(false);
            let fault = Fault::new(key, "nothing may be given here").label("not allowed");
            return refused.then_some(fault).into_iter().collect();
        };
        if let Some(kinds) = keywords.get("x-component") {
            return self.slot(value, kinds, keywords.get("x-extra"), key, scope);
        }
        let mut faults = Vec::new();
        if let Some(target) = target(schema, scope.document) {
            faults.extend(self.value(value, target, key, scope));
        }
        for all in list(schema, "allOf") {
            faults.extend(self.value(value, all, key, scope));
        }
        for union in ["anyOf", "oneOf"] {
            if keywords.contains_key(union) {
                faults.extend(self.union(value, list(schema, union), key, scope));
            }
        }
        faults.extend(self.own_keywords(value, schema, key, scope));
        faults
    }

    fn own_keywords(self, value: &Value, schema: &'a Value, key: &str, scope: Scope<'a>) -> Vec<Fault> {
        if let Some(fault) = choice(value, schema, key).or_else(|| wrong_type(value, schema, key)) {
            return vec![fault];
        }
        match value {
            Value::Number(_) => out_of_range(value, schema, key).into_iter().collect(),
            Value::String(text) => {
                text_length(text, schema, key).or_else(|| wrong_form(text, schema, key)).into_iter().collect()
            }
            Value::Array(items) => self.items(items, schema, key, scope),
            Value::Object(map) => self.mapping(map, schema, key, scope),
            _ => Vec::new(),
        }
    }

    fn items(self, items: &[Value], schema: &'a Value, key: &str, scope: Scope<'a>) -> Vec<Fault> {
        let mut faults: Vec<_> = wrong_length(items.len(), schema, key).into_iter().collect();
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = item_schema(schema, index) {
                faults.extend(self.value(item, schema, &path::join(key, index), scope));
            }
        }
        faults
    }
}

/// `enum` and `const`.
fn choice(value: &Value, schema: &Value, key: &str) -> Option<Fault> {
    let choices: Vec<_> = schema.get("const").into_iter().chain(list(schema, "enum")).collect();
    if choices.is_empty() || choices.contains(&value) {
        return None;
    }
    Some(not_a_choice(value, &choices, key))
}

fn not_a_choice(value: &Value, choices: &[&Value], key: &str) -> Fault {
    let names: Vec<_> = choices.iter().map(|choice| expected::plain(choice)).collect();
    let valid = suggest::list(&names);
    let expected = if names.len() == 1 { valid } else { format!("one of {valid}") };
    let near = value.as_str().and_then(|text| suggest::nearest(text, names.iter().map(String::as_str)));
    Fault::new(key, format!("expected {expected}, found {}", describe(value)))
        .label(format!("expected {expected}"))
        .help(near.map(|near| format!("did you mean `{near}`?")))
}

fn wrong_type(value: &Value, schema: &Value, key: &str) -> Option<Fault> {
    schema.get("type").filter(|_| !matches_type(value, schema, schema))?;
    let expected = describe_type(schema);
    let fault = Fault::new(key, format!("expected {expected}, found {}", describe(value)));
    let help = examples(schema).map(|examples| format!("write {examples}"));
    Some(
        fault.label(format!("expected {expected}")).help(help.or_else(|| expected::type_help(value, schema))),
    )
}

fn out_of_range(value: &Value, schema: &Value, key: &str) -> Option<Fault> {
    let number = value.as_f64()?;
    let limit = |keyword: &str, within: fn(f64, f64) -> bool, words: &str| {
        let limit = schema.get(keyword)?;
        let outside = !within(number, limit.as_f64()?);
        outside.then(|| format!("{words} {}", expected::plain(limit)))
    };
    let broken = [
        limit("minimum", |number, limit| number >= limit, "at least"),
        limit("exclusiveMinimum", |number, limit| number > limit, "greater than"),
        limit("maximum", |number, limit| number <= limit, "at most"),
        limit("exclusiveMaximum", |number, limit| number < limit, "less than"),
        limit("multipleOf", |number, step| (number / step).fract() == 0.0, "a multiple of"),
    ];
    let must = broken.into_iter().flatten().next()?;
    let fault = Fault::new(key, format!("{value} is out of range: it must be {must}"));
    Some(fault.label(format!("must be {must}")))
}

fn wrong_length(len: usize, schema: &Value, key: &str) -> Option<Fault> {
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_u64).map(|limit| limit as usize);
    let (min, max) = (limit("minItems"), limit("maxItems"));
    if min.is_none_or(|min| len >= min) && max.is_none_or(|max| len <= max) {
        return None;
    }
    let expected = match (min, max) {
        (Some(min), Some(max)) if min == max => format!("a list of {min}"),
        (Some(min), Some(max)) => format!("a list of {min} to {max}"),
        (Some(min), None) => format!("a list of at least {min}"),
        (None, max) => format!("a list of at most {}", max.unwrap_or_default()),
    };
    let fault = Fault::new(key, format!("expected {expected}, found a list of {len}"));
    Some(fault.label(format!("expected {expected}")))
}

fn text_length(text: &str, schema: &Value, key: &str) -> Option<Fault> {
    let min = schema.get("minLength").and_then(Value::as_u64)?;
    let short = (text.chars().count() as u64) < min;
    let message =
        if text.is_empty() { "the string is empty".to_owned() } else { format!("fewer than {min} letters") };
    short.then(|| Fault::new(key, message).label("too short"))
}

/// `pattern`, as far as the crate `regex` knows it.
fn wrong_form(text: &str, schema: &Value, key: &str) -> Option<Fault> {
    let pattern = schema.get("pattern")?.as_str()?;
    // A pattern that it does not know is left to the component.
    if regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text)) {
        return None;
    }
    let expected = match examples(schema) {
        Some(examples) => format!("a value such as {examples}"),
        None => format!("a value of the form `{pattern}`"),
    };
    let fault = Fault::new(key, format!("expected {expected}, found {}", describe(&text.into())));
    Some(fault.label("not of this form"))
}

/// The examples of a schema in words: `40 epochs` or `1500 iterations`.
fn examples(schema: &Value) -> Option<String> {
    let examples: Vec<_> =
        list(schema, "examples").map(|example| format!("`{}`", expected::plain(example))).collect();
    (!examples.is_empty()).then(|| expected::any_of(examples))
}
