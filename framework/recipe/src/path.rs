//! Dotted key paths: `model.backbone.depth.0`.
//!
//! A key never contains a dot (the YAML reader refuses one), so a dotted path names one place. List items are
//! addressed by index. The empty path is the whole recipe.

use std::collections::HashSet;
use std::fmt::Display;

use serde_json::Value;

/// `parent.key`, or `key` at the top.
pub(super) fn join(parent: &str, key: impl Display) -> String {
    if parent.is_empty() { key.to_string() } else { format!("{parent}.{key}") }
}

/// The keys of a path, outermost first.
pub(super) fn segments(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('.').filter(|segment| !segment.is_empty())
}

/// The path of the block that holds `path`, and the last key. `None` for the whole recipe.
pub(super) fn split_last(path: &str) -> Option<(&str, &str)> {
    match path.rsplit_once('.') {
        Some(parts) => Some(parts),
        None if path.is_empty() => None,
        None => Some(("", path)),
    }
}

/// Whether `path` is `block` or lies inside it.
pub fn is_within(path: &str, block: &str) -> bool {
    block.is_empty() || path.strip_prefix(block).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The plain values of a recipe under their dotted paths; an empty list or mapping is the text `[]` or `{}`.
pub fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    collect(value, String::new(), &mut leaves);
    leaves
}

fn collect(value: &Value, key: String, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| collect(value, join(&key, name), leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, value)| collect(value, join(&key, index), leaves));
        }
        Value::Object(_) | Value::Array(_) => leaves.push((key, value.to_string().into())),
        plain => leaves.push((key, plain.clone())),
    }
}

/// A recipe without some keys.
pub fn without<K: AsRef<str>>(value: &Value, keys: &[K]) -> Value {
    prune(value, "", &keys.iter().map(AsRef::as_ref).collect())
}

fn prune(value: &Value, key: &str, without: &HashSet<&str>) -> Value {
    match value {
        Value::Object(map) => {
            let keys = map.iter().map(|(name, value)| (name, join(key, name), value));
            let kept = keys.filter(|(_, key, _)| !without.contains(key.as_str()));
            Value::Object(
                kept.map(|(name, key, value)| (name.clone(), prune(value, &key, without))).collect(),
            )
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            Value::Array(items.map(|(index, item)| prune(item, &join(key, index), without)).collect())
        }
        plain => plain.clone(),
    }
}

/// The last segments of a key, as many as tell it from the others. A `type` is told by its block: `mask` for `model.mask.type`.
pub fn short_key(key: &str, keys: &[&str]) -> String {
    let segments = named_segments(key);
    let tail = |segments: &[&str], length: usize| segments[segments.len().saturating_sub(length)..].join(".");
    let length = (1..segments.len()).find(|&length| {
        let others = keys.iter().filter(|other| **other != key);
        others.into_iter().all(|other| tail(&named_segments(other), length) != tail(&segments, length))
    });
    tail(&segments, length.unwrap_or(segments.len()))
}

fn named_segments(key: &str) -> Vec<&str> {
    let mut segments: Vec<_> = key.split('.').collect();
    if segments.len() > 1 && segments.last() == Some(&"type") {
        segments.pop();
    }
    segments
}

/// The child of a mapping or list under one key.
pub(super) fn child<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The value at a path, to be changed.
pub(super) fn lookup_mut<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    segments(path).try_fold(value, |value, key| match value {
        Value::Object(map) => map.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The value at a path.
pub(super) fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    segments(path).try_fold(value, child)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_have_dotted_paths() {
        let value = json!({"lr": 0.1, "betas": [0.9, 0.95], "groups": [], "none": null, "block": {"a": {}}});
        let leaves: Vec<_> =
            leaves(&value).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected =
            ["lr=0.1", "betas.0=0.9", "betas.1=0.95", "groups=\"[]\"", "none=null", "block.a=\"{}\""];
        assert_eq!(leaves, expected);
    }

    #[test]
    fn keys_go_wherever_they_are() {
        let recipe = json!({"train": {"length": 2, "every": 10}, "logging": {"on": false}, "steps": [{"type": "Flip", "p": 0.5}]});
        let expected = json!({"train": {"length": 2}, "steps": [{"type": "Flip"}]});
        assert_eq!(without(&recipe, &["train.every", "logging", "steps.0.p"]), expected);
    }

    #[test]
    fn a_short_key_is_as_long_as_it_has_to_be() {
        let keys = ["model.mask.type", "optimizer.lr", "data.train.size", "data.val.size", "type"];
        let short: Vec<String> = keys.iter().map(|key| short_key(key, &keys)).collect();
        assert_eq!(short, ["mask", "lr", "train.size", "val.size", "type"]);
    }
}
