//! `anyOf` and `oneOf`: which branch was meant.

use serde_json::Value;

use super::expected::{describe, describe_schemas, matches_type, type_help};
use super::{Check, Fault, Scope, not_a_choice};
use crate::catalog::{list, resolve};
use crate::path;

impl<'a> Check<'a> {
    /// Passes when a branch does; otherwise complains about the one that comes closest: by type, then by the
    /// tags of an enum, then by the number of faults.
    pub(super) fn union(
        self,
        value: &Value,
        branches: impl Iterator<Item = &'a Value>,
        key: &str,
        scope: Scope<'a>,
    ) -> Vec<Fault> {
        let branches: Vec<_> = branches.collect();
        let results = branches.iter().map(|branch| self.value(value, branch, key, scope));
        let results: Vec<_> = results.collect();
        if results.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        let document = scope.document;
        if let Some(fault) = no_choice(value, &branches, key, document) {
            return vec![fault];
        }
        if !branches.iter().any(|branch| matches_type(value, branch, document)) {
            return vec![no_branch(value, &branches, key, document)];
        }
        let closest = branches.iter().zip(results).min_by_key(|(branch, faults)| {
            (!matches_type(value, branch, document), wrong_tags(value, branch, document), faults.len())
        });
        closest.map(|(_, faults)| faults).unwrap_or_default()
    }
}

/// The fault of a word, or of the tag of a mapping, that is in none of the branches of an enum.
fn no_choice(value: &Value, branches: &[&Value], key: &str, document: &Value) -> Option<Fault> {
    let possible: Vec<_> = branches.iter().filter(|branch| matches_type(value, branch, document)).collect();
    let all = |choices: Vec<Vec<Value>>| {
        let complete = !choices.is_empty() && choices.iter().all(|choices| !choices.is_empty());
        complete.then(|| choices.concat())
    };
    if let Some(map) = value.as_object() {
        let tag = possible.iter().flat_map(|branch| tags(branch, document)).map(|(tag, _)| tag).next()?;
        let of_branch =
            |branch| tags(branch, document).filter(|(name, _)| *name == tag).map(|(_, value)| value.clone());
        let choices = all(possible.iter().map(|branch| of_branch(branch).collect()).collect())?;
        let given = map.get(tag).filter(|given| !choices.contains(given))?;
        return Some(not_a_choice(given, &choices.iter().collect::<Vec<_>>(), &path::join(key, tag)));
    }
    let others = branches.iter().any(|branch| {
        !matches_type(value, branch, document) && !matches_type(&Value::Null, branch, document)
    });
    let choices = all(possible.iter().map(|branch| constants(branch, document)).collect())?;
    let fault = not_a_choice(value, &choices.iter().collect::<Vec<_>>(), key);
    let help = fault.problem.help.clone();
    Some(if others { no_branch(value, branches, key, document).help(help) } else { fault })
}

/// The constant keys of a branch: `kind: cosine`.
fn tags<'a>(branch: &'a Value, document: &'a Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let properties = resolve(branch, document).get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().filter_map(|(name, schema)| Some((name, schema.get("const")?)))
}

/// The values of a branch that allows only some.
fn constants(branch: &Value, document: &Value) -> Vec<Value> {
    let branch = resolve(branch, document);
    branch.get("const").into_iter().chain(list(branch, "enum")).cloned().collect()
}

fn no_branch(value: &Value, branches: &[&Value], key: &str, document: &Value) -> Fault {
    let expected = describe_schemas(branches.iter().copied(), document);
    let help = branches.iter().find_map(|branch| type_help(value, resolve(branch, document)));
    Fault::new(key, format!("expected {expected}, found {}", describe(value)))
        .label(format!("expected {expected}"))
        .help(help)
}

/// How many constant keys of a branch the value contradicts: `{kind: cosine}` is not the branch of
/// `kind: step`.
fn wrong_tags(value: &Value, branch: &Value, document: &Value) -> usize {
    let branch = resolve(branch, document);
    let missing = list(branch, "required").filter_map(Value::as_str).filter(|name| value.get(name).is_none());
    contradicted(value, branch, document) * 100 + missing.count()
}

fn contradicted(value: &Value, branch: &Value, document: &Value) -> usize {
    tags(branch, document).filter(|(name, tag)| value.get(name) != Some(tag)).count()
}

/// The branch of a valid value, told by type and tags alone; `None` where that leaves several.
pub(super) fn meant<'a>(
    value: &Value,
    branches: impl Iterator<Item = &'a Value>,
    document: &Value,
) -> Option<&'a Value> {
    let mut possible = branches
        .filter(|branch| matches_type(value, branch, document) && contradicted(value, branch, document) == 0);
    let branch = possible.next()?;
    possible.next().is_none().then_some(branch)
}
