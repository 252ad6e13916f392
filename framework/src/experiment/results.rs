//! Which keys of a recipe change the results of a run.

use serde_json::Value;

use crate::recipe::{Change, diff, is_within};

/// Keys that change nothing but speed, words and limits; another device rounds differently.
const FREE: [&str; 12] = [
    "name",
    "description",
    "device",
    "data.workers",
    "data.prefetch",
    "data.max_corrupt",
    "train.checkpoint_activations",
    "train.log_every",
    "checkpoint",
    "evaluate.pictures",
    "evaluate.inference.windows_per_batch",
    "logging",
];

/// Whether runs may end with other results for another value of a key.
pub fn changes_results(key: &str) -> bool {
    !FREE.iter().any(|free| is_within(key, free))
}

/// The changes between two resolved recipes for which their runs may end with other results.
pub fn changes_of_results(before: &Value, after: &Value) -> Vec<Change> {
    diff(before, after).into_iter().filter(|change| changes_results(&change.key)).collect()
}

/// Whether a key of a recipe is a seed.
pub fn is_seed(key: &str) -> bool {
    key.rsplit('.').next() == Some("seed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_and_speed_change_no_results() {
        let before =
            json!({"name": "a", "data": {"workers": 1}, "logging": {"tensorboard": false}, "seed": 0});
        let after = json!({"name": "b", "data": {"workers": 2}, "logging": {"tensorboard": true}, "seed": 1});
        let changes: Vec<_> =
            changes_of_results(&before, &after).into_iter().map(|change| change.key).collect();
        assert_eq!(changes, ["seed"]);
        assert!(is_seed(&changes[0]) && is_seed("init_from.run.seed") && !is_seed("seeds"));
    }
}
