//! What can be wrong with a run directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::similar_run;
use crate::weights::WeightsError;

/// A file of a run directory could not be read or written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot *create* runs/base".
        operation: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what its name says; nothing of it was used.
    #[error("{} is not a valid {what}: {reason}", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What it should be: `metrics file`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a file where the run directory should be.
    #[error("{} is a file; a run needs a directory of its own", .0.display())]
    NotADirectory(PathBuf),
    /// The directory belongs to something else.
    #[error("{} is not empty and not a run directory (it has no recipe.lock.yaml); choose another one", .0.display())]
    Occupied(PathBuf),
    /// The directory holds a run, and it was not asked to go on with it.
    #[error("{} already holds a run; go on with it by --resume, or choose another directory", .0.display())]
    AlreadyARun(PathBuf),
    /// There is no run to go on with.
    #[error("{} is not a run directory: it has no recipe.lock.yaml{}", .0.display(), hint(.0))]
    NotARun(PathBuf),
    /// There is no run at or below a path.
    #[error("there is no run in {}: neither it nor a directory below it has a recipe.lock.yaml{}", .0.display(), hint(.0))]
    NoRun(PathBuf),
    /// Another process is running in it.
    #[error("{} is in use by {}; wait for it, or choose another directory", path.display(), Holder(*pid))]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
}

impl ReportError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn format(path: &Path, what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Format { path: path.to_path_buf(), what, reason: reason.to_string() }
    }
}

/// [`atomic::write`](crate::weights::atomic::write) reports as the weights do.
impl From<WeightsError> for ReportError {
    fn from(error: WeightsError) -> Self {
        match error {
            WeightsError::Io { operation, path, source } => Self::Io { operation, path, source },
            WeightsError::Format { path, reason } => Self::format(&path, "weights file", reason),
        }
    }
}

/// The run that was meant by a path that does not exist.
fn hint(path: &Path) -> String {
    let hint = if path.exists() { None } else { similar_run(path) };
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
