//! `convmae run`: train, evaluate, report.

use std::path::PathBuf;
use std::rc::Rc;

use super::check;
use super::output::{CliError, print};
use super::recipe_args::RecipeArgs;
use super::slurm_job::SlurmJob;
use super::together_args::TogetherArgs;
use crate::component::Span;
use crate::distributed::Communicator;
use crate::engine::{self, Outcome, RunOptions, Stop, together};
use crate::graph::catalog;
use crate::recipe::{Sources, read};
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
    #[command(flatten)]
    pub together: TogetherArgs,
    /// The run directory; `runs/<name>` if left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run that is there, bit for bit as if it had never stopped; start it if there is none.
    #[arg(long)]
    resume: bool,
    /// Train the run that is there longer, by a length such as `20 epochs`: weights, optimizer and averages go on
    /// as they are, and the schedule is drawn to the new end, which the log and the run's recipe tell. The
    /// directory of the run may stand in the place of the recipe.
    #[arg(long, value_name = "LENGTH", num_args = 1..=2)]
    extend: Vec<String>,
    /// In a job of Slurm: where a warning stops the run (`#SBATCH --signal=USR1@180`), put the job back into the queue, from where it
    /// goes on.
    #[arg(long, requires = "resume")]
    requeue: bool,
    /// Only try: check the recipe, its data and its weights, as `check --data` does, take one optimizer step, and evaluate the
    /// first batch of the validation set. No file is written.
    #[arg(long, conflicts_with_all = ["resume", "extend"])]
    dry_run: bool,
    /// Stop, as on SIGTERM, when standard input ends. A sweep starts its runs so: none outlives it unnoticed.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    /// Fail where a signal stops it. Jobs of a cluster run so: what waits for their success is not to begin
    /// before the run is finished.
    #[arg(long, hide = true)]
    must_finish: bool,
}

/// Runs the subcommand.
pub fn run(args: Args, log: LogFile, communicator: Rc<dyn Communicator>) -> Result<(), CliError> {
    let command = args.recipe.to_shell("run");
    let Args { recipe, together: _, out, resume, extend, requeue, dry_run, stop_with_stdin, must_finish } =
        args;
    let own = length(&extend).and_then(|extend| {
        Ok((extend, recipe.sources()?, requeue.then(SlurmJob::of_environment).transpose()?))
    });
    let (extend, (sources, run), job) = together(communicator.as_ref(), own)?;
    let is_first = communicator.is_first();
    if dry_run {
        return if is_first { try_out(&sources, out.or(run)) } else { Ok(()) };
    }
    let options =
        RunOptions { sources, out: out.or(run), resume, extend, stop_with_stdin, log, communicator };
    let Outcome { run, step, interrupted, .. } = engine::run(&options)?;
    if is_first {
        let message = match (interrupted, job) {
            (None, _) => format!("done: {}", run.join("report.html").display()),
            (Some(Stop::Warned), Some(job)) => {
                job.requeue()?;
                format!(
                    "stopped after step {step}, the state is saved; the job {} is back in the queue",
                    job.number()
                )
            }
            (Some(_), _) => format!(
                "stopped after step {step}, the state is saved; continue with\n  {command} --out {} --resume",
                quote(&run.to_string_lossy())
            ),
        };
        say(message);
    }
    if interrupted.is_some() && must_finish { Err(CliError::Stopped(step)) } else { Ok(()) }
}

/// Checks a recipe, and takes a step of its run.
fn try_out(sources: &Sources, out: Option<PathBuf>) -> Result<(), CliError> {
    let recipe = read(sources, &catalog())?;
    check::tell_all(&recipe)?;
    let trial = engine::dry_run(&recipe, out)?;
    print(&format!("\n{trial}"))
}

/// A length in one argument, `"20 epochs"`, or in two, `20 epochs`.
fn length(words: &[String]) -> Result<Option<Span>, CliError> {
    if words.is_empty() {
        return Ok(None);
    }
    let usage = |message: String| CliError::Usage {
        message: format!("--extend: {message}"),
        help: Some("as in `convmae run runs/NAME --extend 20 epochs`".to_owned()),
    };
    match words.join(" ").parse() {
        Ok(Span::Iterations(0)) => Err(usage("there is nothing to add".to_owned())),
        Ok(Span::Epochs(epochs)) if epochs <= 0.0 => Err(usage("there is nothing to add".to_owned())),
        Ok(length) => Ok(Some(length)),
        Err(error) => Err(usage(error.to_string())),
    }
}
