//! What changed between two recipes.

use std::fmt;

use serde_json::Value;

use super::path;

/// A key whose value changed, appeared or went.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Dotted path of the key.
    pub key: String,
    /// The earlier value, `None` when the key is new.
    pub before: Option<Value>,
    /// The later value, `None` when the key is gone.
    pub after: Option<Value>,
}

/// `train.log_every: 10 -> 20`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "unset".to_owned(), Value::to_string);
        write!(f, "{}: {} -> {}", self.key, show(&self.before), show(&self.after))
    }
}

/// The smallest keys that differ. Lists of one length are compared item by item, others as a whole.
pub fn diff(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(Some(before), Some(after), "", &mut changes);
    changes
}

fn compare(before: Option<&Value>, after: Option<&Value>, key: &str, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for (name, value) in old {
                compare(Some(value), new.get(name), &path::join(key, name), changes);
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                compare(None, Some(value), &path::join(key, name), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(Some(old), Some(new), &path::join(key, index), changes);
            }
        }
        _ => changes.push(Change { key: key.to_owned(), before: before.cloned(), after: after.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::diff;

    #[test]
    fn a_difference_names_the_smallest_key() {
        let before = json!({"train": {"epochs": 100, "seed": 0}, "sizes": [1, 2], "old": null});
        let after = json!({"train": {"seed": 0, "epochs": 200}, "sizes": [1, 3], "new": {"a": 1}});
        let changes: Vec<_> = diff(&before, &after).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            ["train.epochs: 100 -> 200", "sizes.1: 2 -> 3", "old: null -> unset", "new: unset -> {\"a\":1}"]
        );
    }
}
