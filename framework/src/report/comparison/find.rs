//! Run directories at or below a path.

use std::fs;
use std::path::{Path, PathBuf};

use crate::report::{ReportError, RunDir};

/// Directories nested deeper than this are not looked into.
const DEPTH: usize = 8;

/// The run at `path`, or all below it by name. A run holds no other runs.
pub(super) fn runs(path: &Path) -> Result<Vec<PathBuf>, ReportError> {
    if RunDir::is_run(path) {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    if path.is_dir() {
        below(path, DEPTH, &mut found)?;
    }
    if found.is_empty() { Err(ReportError::NoRun(path.to_path_buf())) } else { Ok(found) }
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ReportError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(ReportError::io("list", folder))? {
        let entry = entry.map_err(ReportError::io("list", folder))?;
        // A link is not followed: it may lead back.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort_by_key(|folder| natural(folder));
    for folder in folders {
        if RunDir::is_run(&folder) {
            found.push(folder);
        } else if depth > 1 {
            // Of what may not be looked into, nothing is shown.
            let _ = below(&folder, depth - 1, found);
        }
    }
    Ok(())
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

    #[test]
    fn runs_below_a_directory_come_by_name_and_are_not_looked_into() {
        let root = tempfile::tempdir().unwrap();
        for run in ["b/seed_10", "b/seed_9", "a", "a/old", "c/notes"] {
            fs::create_dir_all(root.path().join(run)).unwrap();
        }
        for run in ["b/seed_10", "b/seed_9", "a", "a/old"] {
            fs::write(root.path().join(run).join("recipe.lock.yaml"), "").unwrap();
        }
        let found = runs(root.path()).unwrap();
        assert_eq!(found, ["a", "b/seed_9", "b/seed_10"].map(|run| root.path().join(run)));
        assert_eq!(runs(&root.path().join("a")).unwrap(), [root.path().join("a")]);
    }

    #[test]
    fn a_path_without_a_run_is_named() {
        let root = tempfile::tempdir().unwrap();
        for path in [root.path().to_path_buf(), root.path().join("gone")] {
            let message = runs(&path).unwrap_err().to_string();
            assert!(message.contains(&path.display().to_string()) && message.contains("no run"), "{message}");
        }
    }
}
