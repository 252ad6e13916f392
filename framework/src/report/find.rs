//! Run directories at or below a path.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ReportError, RunDir};
use crate::recipe::nearest_path;

/// The run at `root`, or all below it, by name at every level. A run holds no other runs; hidden folders are
/// left out, and links are not followed.
///
/// # Errors
/// When `root` cannot be listed.
pub(crate) fn run_directories(root: &Path) -> Result<Vec<PathBuf>, ReportError> {
    if RunDir::is_run(root) {
        return Ok(vec![root.to_path_buf()]);
    }
    let mut found = Vec::new();
    // The next one is the last.
    let mut folders = below(root)?;
    while let Some(folder) = folders.pop() {
        if RunDir::is_run(&folder) {
            found.push(folder);
            continue;
        }
        match below(&folder) {
            Ok(more) => folders.extend(more),
            Err(error) => tracing::warn!("left out: {error}"),
        }
    }
    Ok(found)
}

/// Asks for the run that was meant by a path where there is none, or names those that are near.
pub(crate) fn similar_run(root: &Path) -> Option<String> {
    const NAMED: usize = 5;
    if let Some(meant) = nearest_path(root).filter(|meant| RunDir::is_run(meant)) {
        return Some(format!("did you mean `{}`?", meant.display()));
    }
    let folder = root.parent().filter(|folder| folder.is_dir())?;
    let runs = run_directories(folder).unwrap_or_default();
    let names: Vec<_> = runs.iter().take(NAMED).map(|run| format!("`{}`", run.display())).collect();
    match runs.len().saturating_sub(NAMED) {
        _ if runs.is_empty() => None,
        0 => Some(format!("there are {}", names.join(", "))),
        more => Some(format!("there are {} and {more} more", names.join(", "))),
    }
}

/// The folders in a folder, the first one last.
fn below(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(ReportError::io("list", folder))? {
        let entry = entry.map_err(ReportError::io("list", folder))?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link is no folder here: it may lead back.
        if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort_by_cached_key(|folder| std::cmp::Reverse(natural(folder)));
    Ok(folders)
}

/// A key by which `seed_10` comes after `seed_9`: texts and numbers by turns.
fn natural(path: &Path) -> Vec<(String, u64)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = Vec::new();
    let mut rest = name.as_str();
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, from) = rest.split_at(text);
        let digits = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
        parts.push((before.to_owned(), from[..digits].parse().unwrap_or(u64::MAX)));
        rest = &from[digits..];
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(root: &Path, name: &str) {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("recipe.lock.yaml"), "").unwrap();
    }

    #[test]
    fn runs_below_a_directory_come_by_name_and_are_not_looked_into() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("c/notes")).unwrap();
        ["b/seed_10", "b/seed_9", "a", "a/old"].into_iter().for_each(|name| run(root.path(), name));
        let found = run_directories(root.path()).unwrap();
        assert_eq!(found, ["a", "b/seed_9", "b/seed_10"].map(|run| root.path().join(run)));
        assert_eq!(run_directories(&root.path().join("a")).unwrap(), [root.path().join("a")]);
        assert!(run_directories(&root.path().join("gone")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn hidden_folders_and_links_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        ["a", ".trash/b"].into_iter().for_each(|name| run(root.path(), name));
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("circle")).unwrap();
        assert_eq!(run_directories(root.path()).unwrap(), [root.path().join("a")]);
    }
}
