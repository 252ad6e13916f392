//! Why a sweep could not be done.

use std::io;
use std::path::PathBuf;

use crate::report::ReportError;

/// Why a sweep could not be done.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SweepError {
    /// A file of the sweep could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The system did not let us listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The program, which does the runs too, was not found.
    #[error("cannot find this program to start runs with it: {0}")]
    Program(io::Error),
    /// A benchmark failed.
    #[error("the run {run} could not be timed: {reason}")]
    Estimate {
        /// Its name.
        run: String,
        /// What the benchmark said.
        reason: String,
    },
    /// There is no `sbatch`.
    #[error("`sbatch` cannot be started: {0}")]
    #[diagnostic(help(
        "submit from a machine that belongs to a Slurm cluster; `--dry-run` shows the scripts, and without `--slurm` the runs are done here"
    ))]
    NoSbatch(io::Error),
    /// `sbatch` refused a script.
    #[error("`sbatch {script}` failed: {reason}")]
    Sbatch {
        /// The script.
        script: String,
        /// What it said.
        reason: String,
    },
    /// Another sweep is at work in the same directory.
    #[error("another sweep with other settings is at work in {}: there the run {run} has another recipe", root.display())]
    #[diagnostic(help("wait for it, or choose another directory with `--out`"))]
    OtherAtWork {
        /// The directory.
        root: PathBuf,
        /// A run on which they do not agree.
        run: String,
    },
    /// Not every run is finished.
    #[error("{unfinished} of {runs} runs are not finished")]
    #[diagnostic(help(
        "`convmae sweep` again goes on with what is left; failed runs are tried again with `--retry-failed`"
    ))]
    Unfinished {
        /// Runs that failed, were interrupted, or wait for one of these.
        unfinished: usize,
        /// Runs of the sweep.
        runs: usize,
    },
}
