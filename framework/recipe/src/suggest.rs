//! "Did you mean": the nearest of the valid names.

use std::fmt::Display;

/// The candidate a person most likely meant, if any is near: the same but for case and dashes, a few letters
/// off, or the only one with this word in it (`ratio`, `mask_ratio`).
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = fold(word);
    let candidates: Vec<_> = candidates.into_iter().collect();
    let distances = candidates.iter().map(|candidate| strsim::damerau_levenshtein(&folded, &fold(candidate)));
    let (distance, best) = distances.zip(&candidates).min_by_key(|(distance, _)| *distance)?;
    if distance <= folded.chars().count().max(3) / 3 {
        return Some(best);
    }
    let mut with_word = candidates.iter().filter(|candidate| candidate.split('_').any(|part| part == word));
    with_word.next().filter(|_| with_word.next().is_none()).copied()
}

fn fold(word: &str) -> String {
    word.chars().filter(|letter| !matches!(letter, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Names in backquotes, separated by commas; at most a dozen.
pub fn list(names: impl IntoIterator<Item = impl Display>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::{list, nearest};

    #[test]
    fn the_nearest_name_is_found_across_case_dashes_and_typos() {
        let names = ["mask_ratio", "patch_size", "ConvViT"];
        assert_eq!(nearest("mask_ration", names), Some("mask_ratio"));
        assert_eq!(nearest("mask-ratio", names), Some("mask_ratio"));
        assert_eq!(nearest("convvit", names), Some("ConvViT"));
        assert_eq!(nearest("ratio", names), Some("mask_ratio"));
        assert_eq!(nearest("weight_decay", names), None);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(["a", "b"]), "`a`, `b`");
        assert!(list(0..20).ends_with("`11` and 8 more"));
    }
}
