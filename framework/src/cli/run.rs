//! `convmae run`: train, evaluate, report.

use std::path::PathBuf;

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use crate::engine::{self, Outcome, RunOptions};
use crate::report::logging::LogFile;
use crate::shell::quote;
use crate::terminal::say;

/// Run a recipe: train, evaluate, and write the run directory with metrics, checkpoints and a report.
///
/// SIGINT and SIGTERM finish the step, save a checkpoint and exit with 0, and so do SIGHUP, SIGUSR1, SIGUSR2
/// and SIGXCPU; a second SIGINT or SIGTERM stops at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The run directory; `runs/<name>` if left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run that is there, bit for bit as if it had never stopped; start it if there is none.
    #[arg(long)]
    resume: bool,
    /// Stop, as on SIGTERM, when standard input ends. A sweep starts its runs so: none outlives it unnoticed.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    /// Fail where a signal stops it. Jobs of a cluster run so: what waits for their success is not to begin
    /// before the run is finished.
    #[arg(long, hide = true)]
    must_finish: bool,
}

/// Runs the subcommand.
pub fn run(args: Args, log: LogFile) -> Result<(), CliError> {
    let command = args.recipe.to_shell("run");
    let Args { recipe, out, resume, stop_with_stdin, must_finish } = args;
    let options = RunOptions { sources: recipe.sources(), out, resume, stop_with_stdin, log };
    let Outcome { run, step, interrupted, .. } = engine::run(options)?;
    if interrupted {
        say(format!(
            "stopped after step {step}, the state is saved; continue with\n  {command} --out {} --resume",
            quote(&run.to_string_lossy())
        ));
        if must_finish {
            return Err(CliError::Stopped(step));
        }
    } else {
        say(format!("done: {}", run.join("report.html").display()));
    }
    Ok(())
}
