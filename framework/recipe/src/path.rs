//! Dotted key paths: `model.backbone.depth.0`.
//!
//! A key never contains a dot (the YAML reader refuses one), so a dotted path names one place. List items are
//! addressed by index. The empty path is the whole recipe.

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
