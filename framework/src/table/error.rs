//! Why a table cannot be made.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::recipe::Diagnostics;
use crate::runs::RunsError;

/// A table cannot be made.
#[derive(Debug, Error, Diagnostic)]
pub enum TableError {
    /// The table file, one of its recipes, or one of its sweeps has mistakes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] Diagnostics),
    /// The runs cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Runs(#[from] RunsError),
    /// A command that makes the missing runs could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command.
        command: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Commands that make the missing runs failed.
    #[error("{} failed; the table shows what there is", .0.join(", "))]
    Failed(
        /// The commands.
        Vec<String>,
    ),
    /// The table could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl TableError {
    /// Whether the table file or what it names is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
