//! What changed between two recipes.

use std::collections::BTreeSet;
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

/// A key in which recipes differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'v> {
    /// Dotted path of the key.
    pub key: String,
    /// Its value in each recipe, `None` where it is not set.
    pub values: Vec<Option<&'v Value>>,
}

/// The smallest keys in which any of several recipes differs from the first, sorted by name.
pub fn differences<'v>(recipes: &[&'v Value]) -> Vec<Difference<'v>> {
    let Some((first, others)) = recipes.split_first() else { return Vec::new() };
    let changes = others.iter().flat_map(|other| diff(first, other)).map(|change| change.key);
    let mut keys: Vec<String> = changes.collect::<BTreeSet<_>>().into_iter().collect();
    // A list of another length differs as a whole, though a third recipe has one with another item.
    let blocks = keys.clone();
    keys.retain(|key| !blocks.iter().any(|block| block != key && path::is_within(key, block)));
    let values = |key: &str| recipes.iter().map(|recipe| path::lookup(recipe, key)).collect();
    keys.into_iter().map(|key| Difference { values: values(&key), key }).collect()
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

    use super::{diff, differences};

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

    #[test]
    fn of_several_recipes_a_key_has_a_value_each() {
        let recipes = [
            json!({"lr": 1, "list": [1, 2], "same": 0}),
            json!({"lr": 1, "list": [1, 3], "same": 0}),
            json!({"lr": 2, "list": [1], "same": 0, "new": null}),
        ];
        let recipes: Vec<_> = recipes.iter().collect();
        let found = differences(&recipes);
        let keys: Vec<_> = found.iter().map(|difference| difference.key.as_str()).collect();
        // `list.1` alone would not show that the third list is shorter.
        assert_eq!(keys, ["list", "lr", "new"]);
        assert_eq!(found[1].values, [Some(&json!(1)), Some(&json!(1)), Some(&json!(2))]);
        assert_eq!(found[2].values, [None, None, Some(&json!(null))]);
        assert!(differences(&recipes[..1]).is_empty() && differences(&[]).is_empty());
    }
}
