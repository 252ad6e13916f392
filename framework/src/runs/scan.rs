//! Run directories below a folder, read in parallel.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use polars::frame::DataFrame;
use rayon::prelude::*;

use super::RunsError;
use super::cache::{self, Cached};
use super::frame::frame;
use super::record::{self, Record, Stamp};
use crate::report::{RunDir, run_directories};

/// Runs as a table.
#[derive(Debug)]
pub struct Runs {
    /// A row per run.
    pub frame: DataFrame,
    /// Runs whose files are broken, and what is wrong with them; in the table they are `unreadable`.
    pub broken: Vec<(String, String)>,
}

/// The runs below `root`; `run` is their path relative to it. What was read is kept in
/// `root/.convmae-runs.parquet`, so that only runs that changed are read the next time; a folder that cannot
/// be written does without.
///
/// # Errors
/// When `root` cannot be listed.
pub fn scan(root: &Path) -> Result<Runs, RunsError> {
    let directories = run_directories(root)?;
    let cached = cache::read(root);
    let read: Vec<Entry> = directories
        .par_iter()
        .map(|directory| {
            let name = directory.strip_prefix(root).unwrap_or(directory);
            let name = if name.as_os_str().is_empty() { ".".into() } else { name.to_string_lossy() };
            Entry::read(name.into_owned(), directory, &cached)
        })
        .collect();
    let whole: Vec<_> = read.iter().filter(|entry| entry.record.is_ok()).collect();
    if whole.len() != cached.len() || whole.iter().any(|entry| entry.is_new) {
        let whole =
            whole.iter().filter_map(|entry| Some((&*entry.name, &entry.stamp, entry.record.as_ref().ok()?)));
        if let Err(error) = cache::write(root, whole) {
            tracing::debug!("what was read of the runs is not kept: {error}");
        }
    }
    assemble(read)
}

/// The runs in these directories, in this order; `run` is the path as it is given. A directory that holds no
/// run is left out.
///
/// # Errors
/// When the table cannot be put together.
pub fn read(directories: &[PathBuf]) -> Result<Runs, RunsError> {
    let nothing = HashMap::new();
    let entries = directories
        .par_iter()
        .filter(|directory| RunDir::is_run(directory))
        .map(|directory| Entry::read(directory.to_string_lossy().into_owned(), directory, &nothing));
    assemble(entries.collect())
}

/// A run that was found.
struct Entry {
    name: String,
    stamp: Stamp,
    /// Whether it was not in the cache.
    is_new: bool,
    /// What it says, or why it cannot be read.
    record: Result<Record, String>,
    status: String,
}

impl Entry {
    fn read(name: String, directory: &Path, cached: &HashMap<String, Cached>) -> Self {
        let stamp = Stamp::of(directory);
        let known = cached.get(&name).filter(|known| known.stamp == stamp);
        let (record, is_new) = match known.and_then(Cached::record) {
            Some(record) => (Ok(record), false),
            None => (record::read(directory).map_err(|error| error.to_string()), true),
        };
        let status = match &record {
            Ok(record) => record.status(directory),
            Err(_) => "unreadable".to_owned(),
        };
        Self { name, stamp, is_new, record, status }
    }
}

fn assemble(entries: Vec<Entry>) -> Result<Runs, RunsError> {
    let mut broken = Vec::new();
    let mut rows = Vec::with_capacity(entries.len());
    for Entry { name, record, status, .. } in entries {
        let record = record.unwrap_or_else(|reason| {
            broken.push((name.clone(), reason));
            Record::default()
        });
        rows.push(record.into_row(name, status));
    }
    Ok(Runs { frame: frame(&rows)?, broken })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn run(root: &Path, name: &str, summary: &str) {
        let directory = root.join(name);
        drop(RunDir::create(&directory, "name: x\nseed: 1\n").unwrap());
        fs::write(directory.join("summary.json"), summary).unwrap();
    }

    fn column(runs: &Runs, name: &str) -> Vec<String> {
        let column = runs.frame.column(name).unwrap();
        (0..column.len()).map(|row| column.get(row).unwrap().to_string().replace('"', "")).collect()
    }

    const FINISHED: &str = r#"{"status": "finished", "val.top1": 80.5}"#;

    #[test]
    fn runs_are_found_at_any_depth_but_not_in_runs_or_hidden_folders() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b", "a/x/y", "b/checkpoints/no", ".trash/no"] {
            run(root.path(), name, FINISHED);
        }
        let runs = scan(root.path()).unwrap();
        assert_eq!(column(&runs, "run"), ["a/x/y", "b"]);
        assert_eq!(column(&runs, "metrics.top1"), ["80.5", "80.5"]);
        assert_eq!(column(&scan(&root.path().join("b")).unwrap(), "run"), ["."]);
        assert!(scan(&root.path().join("gone")).is_err());
    }

    #[test]
    fn what_is_kept_answers_until_a_file_changes() {
        let root = tempfile::tempdir().unwrap();
        ["a", "b", "c"].into_iter().for_each(|name| run(root.path(), name, FINISHED));
        scan(root.path()).unwrap();
        let kept = cache::read(root.path());
        assert_eq!(kept.len(), 3);
        fs::write(root.path().join("b/summary.json"), r#"{"status": "failed", "val.top1": 7}"#).unwrap();
        fs::remove_dir_all(root.path().join("c")).unwrap();
        let runs = scan(root.path()).unwrap();
        assert_eq!(column(&runs, "metrics.top1"), ["80.5", "7.0"]);
        assert_eq!(column(&runs, "status"), ["finished", "failed"]);
        assert_eq!(cache::read(root.path()).len(), 2);
    }

    #[test]
    fn a_run_that_has_not_changed_is_not_read_again() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "a", FINISHED);
        scan(root.path()).unwrap();
        let planted: Record = serde_json::from_str(r#"{"status": "finished", "metrics.top1": 1.5}"#).unwrap();
        let stamp = Stamp::of(&root.path().join("a"));
        cache::write(root.path(), std::iter::once(("a", &stamp, &planted))).unwrap();
        assert_eq!(column(&scan(root.path()).unwrap(), "metrics.top1"), ["1.5"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_the_same_size_and_time_is_another_one() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "a", FINISHED);
        scan(root.path()).unwrap();
        let path = root.path().join("a/summary.json");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, FINISHED.replace("80.5", "70.5")).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(column(&scan(root.path()).unwrap(), "metrics.top1"), ["70.5"]);
    }

    #[test]
    fn a_foreign_or_broken_cache_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "a", FINISHED);
        for content in ["", "PAR1PAR1"] {
            fs::write(root.path().join(".convmae-runs.parquet"), content).unwrap();
            assert_eq!(column(&scan(root.path()).unwrap(), "run"), ["a"]);
            assert_eq!(cache::read(root.path()).len(), 1);
        }
    }

    #[test]
    fn an_unreadable_run_does_not_hide_the_others() {
        let root = tempfile::tempdir().unwrap();
        run(root.path(), "a", FINISHED);
        run(root.path(), "b", "{");
        let runs = scan(root.path()).unwrap();
        assert_eq!(column(&runs, "status"), ["finished", "unreadable"]);
        assert!(runs.broken[0].1.contains("summary.json is not a valid summary"), "{:?}", runs.broken);
    }

    #[test]
    fn named_directories_keep_their_order_and_what_is_no_run_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        ["a", "b"].into_iter().for_each(|name| run(root.path(), name, FINISHED));
        let directories = ["b", "gone", "a"].map(|name| root.path().join(name));
        let names = column(&read(&directories).unwrap(), "run");
        assert!(names[0].ends_with('b') && names[1].ends_with('a') && names.len() == 2, "{names:?}");
    }
}
