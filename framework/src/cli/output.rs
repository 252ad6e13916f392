//! The output of a command: its text, or its error.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use super::convert::ConvertError;
use crate::engine::EngineError;
use crate::metrics::coco::CocoError;
use crate::recipe::Diagnostics;
use crate::report::ReportError;
use crate::runs::RunsError;
use crate::sweep::SweepError;
use crate::table::TableError;
use crate::terminal::{say, visible_in_colour, visible_lines};

/// Why a command failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CliError {
    /// The recipe has mistakes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Recipe(#[from] Diagnostics),
    /// The run failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] EngineError),
    /// The sweep could not be done.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sweep(#[from] SweepError),
    /// Weights could not be converted.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Convert(#[from] ConvertError),
    /// Runs could not be listed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Runs(#[from] RunsError),
    /// A table could not be made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Table(#[from] TableError),
    /// Results could not be evaluated.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Coco(#[from] CocoError),
    /// The command was asked for something that is not there.
    #[error("{message}")]
    Usage {
        /// What is not there.
        message: String,
        /// What is.
        #[help]
        help: Option<String>,
    },
    /// The run was stopped by a signal, where that is a failure.
    #[error("stopped by a signal after step {0}, before its end")]
    Stopped(u64),
    /// The run is stopped, and its job is not back in the queue.
    #[error("the state is saved, but the job {job} could not be put back into the queue: {reason}")]
    Requeue {
        /// Its number.
        job: String,
        /// What Slurm says.
        reason: String,
    },
    /// Standard output could not be written.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

impl CliError {
    /// The exit code of the program.
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Recipe(_)
            | Self::Usage { .. }
            | Self::Convert(ConvertError::Extension(_) | ConvertError::SameFile(_))
            | Self::Engine(
                EngineError::Recipe(_)
                | EngineError::RecipeChanged { .. }
                | EngineError::Usage(_)
                | EngineError::Report(
                    ReportError::AlreadyARun(_)
                    | ReportError::Occupied(_)
                    | ReportError::NotADirectory(_)
                    | ReportError::NoRun(_),
                ),
            ) => ExitCode::from(2),
            Self::Engine(EngineError::Report(ReportError::Locked { .. }))
            | Self::Sweep(SweepError::OtherAtWork { .. }) => ExitCode::from(crate::sweep::local::HELD),
            Self::Table(error) if error.is_usage() => ExitCode::from(2),
            Self::Runs(error) if error.is_usage() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Prints an error to standard error. Lines are wrapped for a terminal only, so that paths can be searched
/// for elsewhere.
pub(super) fn complain(error: CliError) {
    let is_terminal = std::io::stderr().is_terminal();
    // Fails where a hook is set already.
    let _ = miette::set_hook(Box::new(move |_| {
        // Our messages name their causes.
        let mut handler = miette::MietteHandlerOpts::new().without_cause_chain().wrap_lines(is_terminal);
        if !is_terminal {
            handler = handler.color(false);
        }
        Box::new(handler.build())
    }));
    let report = format!("{:?}", miette::Report::new(error));
    match is_terminal {
        // Only colours are left of what controls it.
        true => drop(writeln!(std::io::stderr().lock(), "{}", visible_in_colour(&report))),
        false => say(report),
    }
}

/// Prints a text to standard output; a closed pipe is an error, not a panic.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", visible_lines(text.trim_end()))?;
    Ok(())
}
