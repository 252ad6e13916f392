//! Names of runs, made of their axes.

use std::collections::HashMap;

use serde_json::Value;

use crate::recipe::short_key;

/// The axis of the names of variants in lists.
pub(super) const VARIANT: &str = "variant";
/// The axis of `seeds`, and the key that it sets.
pub(super) const SEED: &str = "seed";

/// Longer names are cut; the digest makes them unique again.
const MAX_LENGTH: usize = 120;

/// Endings of the files that a sweep keeps beside its runs.
const RESERVED: [&str; 4] = [".log", ".json", ".sbatch", ".out"];

/// Whether a run of this name could be mixed up with a file of the sweep.
pub(super) fn is_reserved(name: &str) -> bool {
    let name = name.to_lowercase();
    RESERVED.iter().any(|ending| name.ends_with(ending))
}

/// A short name for each run of a stage, from its axes: `mask-RandomMasker_seed-0`. All axes are in it,
/// whether they vary or not, so that a run keeps its name when the sweep grows; `keys` are those of the whole
/// file, among which the short forms are unique. Names that are not unique, whatever the case of their
/// letters, get the beginning of what stands for the run, a digest.
pub(super) fn slugs(runs: &[(&[(String, Value)], &str)], keys: &[&str]) -> Vec<String> {
    let short: HashMap<&str, String> = keys.iter().map(|key| (*key, clean(&short_key(key, keys)))).collect();
    let names: Vec<String> = runs
        .iter()
        .map(|(axes, _)| {
            let parts = axes.iter().filter_map(|(key, value)| Some((short.get(key.as_str())?, key, value)));
            let parts = parts.map(|(short, key, value)| match key.as_str() {
                VARIANT => word(value),
                _ => format!("{short}-{}", word(value)),
            });
            let name = parts.collect::<Vec<_>>().join("_");
            if name.is_empty() { "run".to_owned() } else { name }
        })
        .collect();
    let mut count: HashMap<String, usize> = HashMap::new();
    for name in &names {
        *count.entry(name.to_lowercase()).or_default() += 1;
    }
    let is_kept =
        |name: &String| count[&name.to_lowercase()] == 1 && name.len() <= MAX_LENGTH && !is_reserved(name);
    let named = names.iter().zip(runs).map(|(name, (_, digest))| {
        let digest = digest.get(..8).unwrap_or(digest);
        let cut = name.get(..MAX_LENGTH).unwrap_or(name);
        if is_kept(name) { name.clone() } else { format!("{cut}_{digest}") }
    });
    named.collect()
}

/// A value in few letters that any file system takes.
fn word(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join("x"),
        Value::Object(map) => match map.get("type").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => {
                map.iter().map(|(key, value)| format!("{key}-{}", word(value))).collect::<Vec<_>>().join("-")
            }
        },
        other => other.to_string(),
    };
    clean(&text).chars().take(LONGEST).collect()
}

fn clean(text: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "._+-".contains(letter) { letter } else { '-' };
    text.chars().map(plain).collect::<String>().trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(runs: &[Vec<(&str, Value)>]) -> Vec<String> {
        let runs: Vec<Vec<(String, Value)>> = runs
            .iter()
            .map(|axes| axes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
            .collect();
        let mut keys: Vec<&str> = runs.iter().flatten().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        let digests: Vec<String> = (0..runs.len()).map(|at| format!("{at:08}ffff")).collect();
        slugs(
            &runs.iter().zip(&digests).map(|(axes, digest)| (&axes[..], &digest[..])).collect::<Vec<_>>(),
            &keys,
        )
    }

    #[test]
    fn a_name_is_made_of_all_axes() {
        let runs = ["BlockwiseMasker", "RandomMasker"]
            .map(|masker| vec![("model.mask.type", json!(masker)), ("seed", json!(0))]);
        assert_eq!(named(&runs), ["mask-BlockwiseMasker_seed-0", "mask-RandomMasker_seed-0"]);
        // Whether the others are there or not.
        assert_eq!(named(&runs[..1]), ["mask-BlockwiseMasker_seed-0"]);
        assert_eq!(named(&[vec![]]), ["run"]);
    }

    #[test]
    fn keys_that_end_alike_are_told_apart() {
        let runs = [(4, 8), (8, 4)]
            .map(|(a, b)| vec![("data.train.batch_size", json!(a)), ("data.val.batch_size", json!(b))]);
        assert_eq!(named(&runs)[0], "train.batch_size-4_val.batch_size-8");
    }

    #[test]
    fn values_of_all_kinds_make_a_plain_name() {
        let values = [
            json!([1, 2.5]),
            json!(null),
            json!({ "type": "ViT", "depth": 1 }),
            json!("a/b ü c"),
            json!(true),
        ];
        let runs: Vec<_> = values.into_iter().map(|value| vec![("k", value)]).collect();
        assert_eq!(named(&runs), ["k-1x2.5", "k-null", "k-ViT", "k-a-b---c", "k-true"]);
    }

    #[test]
    fn equal_names_get_the_digest() {
        let runs = [json!("a b"), json!("A-b"), json!("c")].map(|value| vec![("k", value)]);
        assert_eq!(named(&runs), ["k-a-b_00000000", "k-A-b_00000001", "k-c"]);
    }

    #[test]
    fn a_name_like_that_of_a_log_gets_the_digest() {
        let runs = [json!("c"), json!("c.log")].map(|value| vec![("k", value)]);
        assert_eq!(named(&runs), ["k-c", "k-c.log_00000001"]);
    }
}
