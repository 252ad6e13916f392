//! What can be wrong with a table of runs.

use miette::Diagnostic;
use polars::error::PolarsError;
use thiserror::Error;

use crate::condition::ConditionError;
use crate::report::ReportError;

/// Runs could not be read, or were asked for something that is not there.
#[derive(Debug, Error, Diagnostic)]
pub enum RunsError {
    /// A directory could not be read.
    #[error(transparent)]
    Directory(#[from] ReportError),
    /// A condition that cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Condition(#[from] ConditionError),
    /// A column that no run has.
    #[error("no run has the column `{name}`")]
    UnknownColumn {
        /// The column that was asked for.
        name: String,
        /// The columns there are.
        #[help]
        help: String,
    },
    /// A test that fits no value of a column.
    #[error("`{name}` holds {kind}: `{test}` means nothing")]
    #[diagnostic(help("{kind} compare with {kind}; `=` and `!=` take `null`, too"))]
    Misfit {
        /// The column.
        name: String,
        /// What it holds: `numbers`, `booleans`.
        kind: &'static str,
        /// The test.
        test: String,
    },
    /// The table could not be put together.
    #[error("the table of runs: {0}")]
    Frame(#[from] PolarsError),
}

impl RunsError {
    /// Whether it was the question that is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Condition(_) | Self::UnknownColumn { .. } | Self::Misfit { .. })
    }
}
