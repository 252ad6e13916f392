//! The directory of a run: what is where, and who may write it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{MetricLog, ReportError, Summary, lock_file};
use crate::weights::{atomic, check_safetensors};

/// A run directory. Made by [`create`](Self::create) or [`open`](Self::open) it is held by this process until
/// dropped.
///
/// It is a run directory from the moment it has a `recipe.lock.yaml`; that file is written last.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Holds the lock as long as it is open; the system releases it with the process, however that ends.
    _lock: Option<File>,
}

impl RunDir {
    /// Makes a new run directory at `root`, which may exist if it is empty, for the resolved recipe
    /// `lock_yaml`.
    pub fn create(root: &Path, lock_yaml: &str) -> Result<Self, ReportError> {
        if root.exists() && !root.is_dir() {
            return Err(ReportError::NotADirectory(root.to_path_buf()));
        }
        fs::create_dir_all(root).map_err(ReportError::io("create", root))?;
        if Self::is_run(root) {
            return Err(ReportError::AlreadyARun(root.to_path_buf()));
        }
        // With a lock file in it, it is ours, and may hold what a start left that was cut short.
        if !root.join(LOCK).exists() && !is_free(root)? {
            return Err(ReportError::Occupied(root.to_path_buf()));
        }
        let run = Self::acquire(root)?;
        // Another process may have made it a run since.
        if Self::is_run(root) {
            return Err(ReportError::AlreadyARun(root.to_path_buf()));
        }
        if !is_free(root)? {
            return Err(ReportError::Occupied(root.to_path_buf()));
        }
        run.create_folders()?;
        run.replace_recipe(lock_yaml)?;
        Ok(run)
    }

    /// Takes up the run at `root`, to resume it.
    pub fn open(root: &Path) -> Result<Self, ReportError> {
        if root.exists() && !root.is_dir() {
            return Err(ReportError::NotADirectory(root.to_path_buf()));
        }
        if !Self::is_run(root) {
            return Err(ReportError::NotARun(root.to_path_buf()));
        }
        let run = Self::acquire(root)?;
        run.create_folders()?;
        Ok(run)
    }

    /// Looks into the run at `root` without holding it; it may be running elsewhere.
    pub fn inspect(root: &Path) -> Result<Self, ReportError> {
        if !Self::is_run(root) {
            return Err(ReportError::NotARun(root.to_path_buf()));
        }
        Ok(Self { root: root.to_path_buf(), _lock: None })
    }

    /// Whether `root` holds a run.
    pub fn is_run(root: &Path) -> bool {
        root.join(RECIPE).is_file()
    }

    /// Whether a process holds the run at `root`: it is running.
    pub fn is_held(root: &Path) -> bool {
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(root.join(LOCK)).is_ok_and(held)
    }

    /// Whether the directory may be held: no other process holds it.
    ///
    /// # Errors
    /// [`ReportError::Locked`] while one does.
    pub fn check_unheld(root: &Path) -> Result<(), ReportError> {
        let path = root.join(LOCK);
        match File::open(&path) {
            Ok(mut file) => lock(&mut file, root, &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(ReportError::io("open", &path)(error)),
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `recipe.lock.yaml`: the resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join(RECIPE)
    }

    /// The resolved recipe as YAML, as the run was made with it.
    ///
    /// # Errors
    /// Also if the file was altered since.
    pub fn read_recipe(&self) -> Result<String, ReportError> {
        lock_file::read(&self.recipe())
    }

    /// Replaces the resolved recipe: of a run that is trained longer, or whose data lie elsewhere now.
    pub fn replace_recipe(&self, yaml: &str) -> Result<(), ReportError> {
        lock_file::write(&self.recipe(), yaml)
    }

    /// `metrics.parquet`: see [`MetricLog`](super::MetricLog).
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.parquet")
    }

    /// `classes.parquet`: see [`ClassTable`](super::ClassTable).
    pub fn classes(&self) -> PathBuf {
        self.root.join("classes.parquet")
    }

    /// `confusion.parquet`: see [`ConfusionTable`](super::ConfusionTable).
    pub fn confusion(&self) -> PathBuf {
        self.root.join("confusion.parquet")
    }

    /// `features.parquet`: see [`FeatureMap`](super::FeatureMap).
    pub fn features(&self) -> PathBuf {
        self.root.join("features.parquet")
    }

    /// `log.jsonl`: see [`logging`](super::logging).
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// `summary.json`: see [`Summary`].
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// Whether the run is finished: its summary says so, and its report and its final weights are there.
    pub fn is_finished(&self) -> bool {
        self.says_finished() && self.report().is_file() && self.weights().is_file()
    }

    /// Whether its summary says that the run is finished; files may have been lost since.
    pub fn says_finished(&self) -> bool {
        let summary = Summary::read(&self.summary());
        summary.is_ok_and(|summary| summary.get("status").is_some_and(|status| status == "finished"))
    }

    /// Checks that what the run has left, and what others start from, is as it was written: recipe, figures
    /// and final weights, as far as they are there.
    ///
    /// # Errors
    /// The first file that is damaged, and how.
    pub fn verify(&self) -> Result<(), ReportError> {
        self.read_recipe()?;
        if self.metrics().is_file() {
            MetricLog::open(&self.metrics())?;
        }
        if self.weights().is_file() {
            check_safetensors(&self.weights())?;
        }
        Ok(())
    }

    /// `report.html`: see [`Report`](super::Report).
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `report.json`: see [`Details`](super::Details).
    pub fn details(&self) -> PathBuf {
        self.root.join("report.json")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    /// The final weights under the official names: `model.safetensors`.
    pub fn weights(&self) -> PathBuf {
        self.root.join("model.safetensors")
    }

    /// `pictures/`: see [`PictureStore`](super::PictureStore).
    pub fn pictures(&self) -> PathBuf {
        self.root.join(PICTURES)
    }

    /// `tensorboard/`: see [`EventLog`](super::EventLog).
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// `environment.json`: see [`Environment`](super::Environment).
    pub fn environment(&self) -> PathBuf {
        self.root.join("environment.json")
    }

    fn create_folders(&self) -> Result<(), ReportError> {
        for folder in [self.checkpoints(), self.pictures()] {
            fs::create_dir_all(&folder).map_err(ReportError::io("create", &folder))?;
            atomic::remove_leftovers(&folder)?;
        }
        Ok(())
    }

    fn acquire(root: &Path) -> Result<Self, ReportError> {
        let path = root.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(ReportError::io("open", &path))?;
        lock(&mut file, root, &path)?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(ReportError::io("write", &path))?;
        atomic::remove_leftovers(root)?;
        Ok(Self { root: root.to_path_buf(), _lock: Some(file) })
    }
}

/// Locks the file, unless another process runs there. One that only asks [`RunDir::is_held`] holds it for a
/// moment.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 5;
    for _ in 1..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            done => return done,
        }
    }
    file.try_lock()
}

/// Locks the file at `path` for the directory `root`, until it is closed.
fn lock(file: &mut File, root: &Path, path: &Path) -> Result<(), ReportError> {
    match try_lock(file) {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder's number is a courtesy.
            let _ = file.read_to_string(&mut holder);
            Err(ReportError::Locked { path: root.to_path_buf(), pid: holder.trim().parse().ok() })
        }
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!("{} cannot be locked here; do not run two processes in it", root.display());
            Ok(())
        }
        Err(TryLockError::Error(error)) => Err(ReportError::io("lock", path)(error)),
    }
}

const RECIPE: &str = "recipe.lock.yaml";
const CHECKPOINTS: &str = "checkpoints";
const PICTURES: &str = "pictures";
/// Never removed: a process that removes it could remove the lock of the next one.
const LOCK: &str = ".lock";

/// Whether a run may begin in `root`: nothing in it, but for what a run leaves that was stopped before it had
/// a recipe.
fn is_free(root: &Path) -> Result<bool, ReportError> {
    for entry in fs::read_dir(root).map_err(ReportError::io("list", root))? {
        let entry = entry.map_err(ReportError::io("list", root))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_empty_folder = || fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
        let is_own = name == LOCK || ([CHECKPOINTS, PICTURES].contains(&name.as_str()) && is_empty_folder());
        if !is_own {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_new_directory_has_its_folders_and_the_recipe() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("runs/base");
        let run = RunDir::create(&root, "seed: 1\n").unwrap();
        assert_eq!(run.read_recipe().unwrap(), "seed: 1\n");
        assert!(run.checkpoints().is_dir() && run.pictures().is_dir());
        drop(run);
        assert!(RunDir::open(&root).is_ok());
    }

    #[test]
    fn two_processes_cannot_hold_one_directory() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "").unwrap();
        let message = RunDir::open(root.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
        assert_eq!(RunDir::inspect(root.path()).unwrap().root(), root.path());
        assert!(RunDir::is_held(root.path()));
        assert!(matches!(RunDir::check_unheld(root.path()), Err(ReportError::Locked { pid: Some(_), .. })));
        drop(run);
        assert!(!RunDir::is_held(root.path()));
        RunDir::check_unheld(root.path()).unwrap();
        RunDir::open(root.path()).unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_process_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(RECIPE), "").unwrap();
        fs::write(root.path().join(LOCK), "4294967294\n").unwrap();
        let _run = RunDir::open(root.path()).unwrap();
        let holder = fs::read_to_string(root.path().join(LOCK)).unwrap();
        assert_eq!(holder.trim(), std::process::id().to_string());
    }

    #[test]
    fn a_directory_that_belongs_to_something_else_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(RunDir::create(root.path(), ""), Err(ReportError::Occupied(_))));
        assert!(matches!(RunDir::open(root.path()), Err(ReportError::NotARun(_))));
    }

    #[test]
    fn a_run_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        drop(RunDir::create(root.path(), "seed: 1").unwrap());
        let message = RunDir::create(root.path(), "seed: 2").unwrap_err().to_string();
        assert!(message.contains("already holds a run") && message.contains("--resume"), "{message}");
        assert_eq!(RunDir::inspect(root.path()).unwrap().read_recipe().unwrap(), "seed: 1");
    }

    #[test]
    fn a_start_that_was_interrupted_does_not_block_the_next() {
        let root = tempfile::tempdir().unwrap();
        for file in [".lock", ".convmae-a1b2.tmp"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        fs::create_dir(root.path().join(CHECKPOINTS)).unwrap();
        RunDir::create(root.path(), "").unwrap();
    }

    #[test]
    fn faults_name_the_path_and_the_operation() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let message = RunDir::create(&file, "").unwrap_err().to_string();
        assert_eq!(message, format!("{} is a file; a run needs a directory of its own", file.display()));
        let message = RunDir::create(&file.join("run"), "").unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot create {}: ", file.join("run").display())), "{message}");
        let message = RunDir::create(Path::new("/proc/convmae/run"), "").unwrap_err().to_string();
        assert!(message.starts_with("cannot create /proc/convmae/run: "), "{message}");
        let message = RunDir::open(&parent.path().join("gone")).unwrap_err().to_string();
        assert!(message.contains("not a run directory"), "{message}");
    }
}
