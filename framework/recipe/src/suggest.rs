//! "Did you mean": the nearest of the valid names.

use std::fmt::Display;
use std::path::{Path, PathBuf};

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

/// The path that a person most likely meant by one that does not exist: what is missing of it is replaced by what is
/// there and named almost like it.
pub fn nearest_path(missing: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in missing.components() {
        let path = found.join(part);
        found =
            if path.exists() { path } else { found.join(nearest_entry(&found, part.as_os_str().to_str()?)?) };
    }
    Some(found)
}

/// The entry of a folder that is named almost like this.
fn nearest_entry(folder: &Path, name: &str) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = folder.read_dir().ok()?.flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
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
    use super::{list, nearest, nearest_path};

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
    fn every_misspelt_name_of_a_path_is_replaced_by_the_nearest_one_there() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/imagenet/val")).unwrap();
        let meant = |path: &str| nearest_path(&root.path().join(path));
        for path in ["data/imagenet/val", "dta/imagenet/val", "data/image_net/vall"] {
            assert_eq!(meant(path), Some(root.path().join("data/imagenet/val")), "{path}");
        }
        assert_eq!(meant("data/imagenet/test"), None);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(["a", "b"]), "`a`, `b`");
        assert!(list(0..20).ends_with("`11` and 8 more"));
    }
}
