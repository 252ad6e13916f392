//! Why a table cannot be made.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::recipe::Diagnostics;
use crate::runs::RunsError;
use crate::weights::WeightsError;

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
    /// The system did not let us listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// A signal stopped the making of runs.
    #[error("stopped; the table shows what there is, and the same command goes on")]
    Stopped,
    /// A file whose ending is that of no format.
    #[error("{} has an ending that is that of no table", .0.display())]
    #[diagnostic(help("endings are `.md`, `.tex`, `.csv` and `.html`; or say `--format`"))]
    Ending(
        /// The file.
        PathBuf,
    ),
    /// The table could not be written.
    #[error(transparent)]
    Write(#[from] WeightsError),
}

impl TableError {
    /// Whether the table file, what it names, or the question is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::File(_) | Self::Ending(_))
    }
}
