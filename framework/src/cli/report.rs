//! `convmae report`: several runs on one page.

use std::path::PathBuf;

use super::complete;
use super::output::CliError;
use crate::engine::EngineError;
use crate::report::{Report, ReportError, export_to_mlflow};
use crate::terminal::say;

/// Compare runs on one self-contained HTML page: figures, curves, recipes, pictures, hardware and versions
/// side by side.
///
/// Runs may still go on. What cannot be read as a run is left out with a warning, and named on the page.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run directories, or directories above several.
    #[arg(required = true, value_name = "RUN", add = complete::runs())]
    runs: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    out: PathBuf,
    /// Write the charts to this folder, too, each as SVG and as PDF.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Write the runs to this folder, too, as `MLflow` keeps them in files (`mlruns`).
    #[arg(long, value_name = "DIR")]
    mlflow: Option<PathBuf>,
    /// The title of the page; the name of the run or the number of runs if left out.
    #[arg(long, value_name = "TITLE")]
    name: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<(), CliError> {
    let failed = |error: ReportError| CliError::from(EngineError::from(error));
    let report = Report::read(&args.runs).map_err(failed)?.with_title(args.name);
    report.write(&args.out).map_err(failed)?;
    say(format!("{} runs: {}", report.len(), args.out.display()));
    if let Some(folder) = &args.figures {
        let count = report.write_figures(folder).map_err(failed)?;
        say(format!("{count} figures: {}", folder.display()));
    }
    if let Some(store) = &args.mlflow {
        let count = export_to_mlflow(&args.runs, store).map_err(failed)?;
        say(format!("{count} runs for MLflow: {}", store.display()));
    }
    Ok(())
}
