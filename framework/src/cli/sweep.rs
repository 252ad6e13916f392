//! `convmae sweep`: many runs from one file.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, StringValueParser, TypedValueParser as _};
use serde_json::{Value, json};

use super::complete;
use super::file_kind::FileKind;
use super::output::{CliError, print};
use crate::columns::aligned;
use crate::engine::terminate_after;
use crate::recipe::Sources;
use crate::report::{Report, clock};
use crate::shell;
use crate::sweep::local::{LocalOptions, RunEnd, SweepOutcome};
use crate::sweep::{Plan, SlurmOptions, Sweep, SweepError};
use crate::terminal::{indented_json, say};

/// Do all runs of a sweep: check every one of them first, pass over those that are finished, and go on with
/// the others.
///
/// One run that fails does not stop the rest, but those that start from it. SIGINT and SIGTERM stop all runs,
/// which save their state; the same command goes on, also after a crash or `kill -9`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sweep.
    #[arg(value_name = "SWEEP", add = complete::yaml())]
    sweep: PathBuf,
    /// Set a value in all runs, as `train.length='2 epochs'`, with stages `pretrain.train.length=..`; may be
    /// repeated. Comes last.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The directory of the sweep; `runs/<name>` if left out.
    #[arg(long, value_name = "DIR", value_parser = PathBufValueParser::new().try_map(path_in_one_line))]
    out: Option<PathBuf>,
    /// Runs at once; they share the cores. With `--slurm` tasks at once, all if left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Print the runs, with `--slurm` the job scripts too, and stop there.
    #[arg(long)]
    dry_run: bool,
    /// Try runs that failed again, from their last checkpoint.
    #[arg(long)]
    retry_failed: bool,
    /// Time a few steps of every different model to tell how long the runs will take.
    #[arg(long)]
    estimate: bool,
    /// Submit the runs to Slurm, an array job per stage, instead of doing them here.
    #[arg(long)]
    slurm: bool,
    /// Options of the jobs, as `--slurm-options "--time=2:00:00 --partition=gpu"`, an `#SBATCH` line as it
    /// is; may be repeated.
    #[arg(
        long,
        value_name = "OPTIONS",
        requires = "slurm",
        allow_hyphen_values = true,
        value_parser = StringValueParser::new().try_map(in_one_line)
    )]
    slurm_options: Vec<String>,
    /// Print the runs as JSON: before they are done with `--dry-run`, otherwise after.
    #[arg(long)]
    json: bool,
    /// Stop, as on SIGTERM, when standard input comes to its end.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

fn in_one_line(text: String) -> Result<String, &'static str> {
    if text.contains(['\n', '\r']) { Err("it is to be one line") } else { Ok(text) }
}

/// Paths go to lines of job scripts.
fn path_in_one_line(path: PathBuf) -> Result<PathBuf, &'static str> {
    in_one_line(path.to_string_lossy().into_owned()).map(|_| path)
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    if args.stop_with_stdin {
        terminate_after(std::io::stdin());
    }
    FileKind::Sweep.expect(&args.sweep)?;
    let sweep = Sweep::load(&args.sweep)?;
    let plan = sweep.expand(args.out.as_deref(), &args.sets)?;
    let steps = plan.steps();
    let seconds = match args.estimate {
        true => plan.estimate(&steps, args.jobs())?,
        false => vec![None; plan.runs.len()],
    };
    let table = Table { sweep: &sweep, plan: &plan, steps, seconds, jobs: args.jobs() };
    // A reader that has gone is no reason to leave the runs: what could not be printed is told at the end.
    let mut printed = match args.json {
        true if args.dry_run => print(&indented_json(&table.json())),
        true => Ok(()),
        false => print(&table.text()),
    };
    if args.slurm {
        slurm(args, &sweep, &plan)?;
        if args.json && !args.dry_run {
            print(&indented_json(&table.json()))?;
        }
        return printed;
    }
    if args.dry_run {
        return printed;
    }
    let _at_work = plan.begin(&sweep)?;
    let outcome = plan.run(LocalOptions { jobs: args.jobs(), retry_failed: args.retry_failed })?;
    if args.json {
        printed = print(&indented_json(&table.json()));
    }
    report(&sweep, &plan);
    args.conclude(&plan, &outcome).and(printed)
}

/// Writes `report.html` of all runs that there are. A page that cannot be written is no fault of theirs.
fn report(sweep: &Sweep, plan: &Plan) {
    let runs: Vec<PathBuf> =
        plan.runs.iter().map(|run| run.directory.clone()).filter(|run| run.is_dir()).collect();
    if runs.is_empty() {
        return;
    }
    let page = plan.root.join("report.html");
    let report = Report::read(&runs).map(|report| report.with_title(Some(sweep.name().to_owned())));
    match report.and_then(|report| report.write(&page)) {
        Ok(()) => say(format!("report: {}", page.display())),
        Err(fault) => tracing::warn!("no report: {fault}"),
    }
}

fn slurm(args: &Args, sweep: &Sweep, plan: &Plan) -> Result<(), CliError> {
    let options = SlurmOptions {
        jobs: args.jobs.map(|jobs| jobs as usize),
        options: args.slurm_options.clone(),
        retry_failed: args.retry_failed,
    };
    let jobs = plan.array_jobs(sweep.name(), &options)?;
    for (run, advice) in plan.stale() {
        say(format!("not submitted: {}\n  {advice}", run.name));
    }
    if args.dry_run {
        for job in jobs.iter().filter(|_| !args.json) {
            let after = if job.after.is_empty() {
                String::new()
            } else {
                format!(", after {}", job.after.join(", "))
            };
            print(&format!("\n# {}{after}\n{}", job.path.display(), job.script))?;
        }
        return Ok(());
    }
    plan.write_manifest(sweep).map_err(SweepError::from)?;
    plan.submit(&jobs, |job, number| {
        let stage = if job.stage.is_empty() { String::new() } else { format!("{}: ", job.stage) };
        say(format!("submitted {stage}job {number}"));
    })?;
    if jobs.is_empty() {
        say("nothing is left to do");
    }
    Ok(())
}

impl Args {
    fn jobs(&self) -> usize {
        self.jobs.unwrap_or(1) as usize
    }

    fn conclude(&self, plan: &Plan, outcome: &SweepOutcome) -> Result<(), CliError> {
        let count = |wanted: fn(&RunEnd) -> bool| outcome.ends.iter().filter(|end| wanted(end)).count();
        let finished = count(|end| *end == RunEnd::Finished);
        let (runs, failed) = (plan.runs.len(), count(|end| matches!(end, RunEnd::Failed(_))));
        let blocked = count(|end| *end == RunEnd::Blocked);
        say(format!(
            "{finished} of {runs} runs finished, {failed} failed, {blocked} blocked: {}",
            plan.root.display()
        ));
        for (run, end) in plan.runs.iter().zip(&outcome.ends) {
            if matches!(end, RunEnd::Failed(_)) {
                say(format!("  failed: {} ({})", run.name, run.log().display()));
            }
        }
        if outcome.stopped && finished < runs {
            say(format!("stopped, the state is saved; continue with\n  {}", self.to_shell()));
        }
        match failed > 0 || (finished < runs && !outcome.stopped) {
            true => Err(SweepError::Unfinished { unfinished: runs - finished, runs }.into()),
            false => Ok(()),
        }
    }

    /// The command that goes on with this sweep, as one writes it in a shell; overrides from the environment
    /// are put in front.
    fn to_shell(&self) -> String {
        let mut words = vec![shell::program(), "sweep".to_owned(), self.sweep.to_string_lossy().into_owned()];
        words.extend(self.sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        if let Some(out) = &self.out {
            words.extend(["--out".to_owned(), out.to_string_lossy().into_owned()]);
        }
        words.extend(self.jobs.iter().flat_map(|jobs| ["--jobs".to_owned(), jobs.to_string()]));
        words.extend(self.retry_failed.then(|| "--retry-failed".to_owned()));
        shell::command(&Sources::from_env("").environment, words)
    }
}

/// The runs of a sweep for a person or a program.
struct Table<'p> {
    sweep: &'p Sweep,
    plan: &'p Plan,
    steps: Vec<Option<u64>>,
    seconds: Vec<Option<f64>>,
    jobs: usize,
}

impl Table<'_> {
    fn text(&self) -> String {
        let header = ["run", "parameters", "GMACs", "steps", "time", "state"].map(str::to_owned);
        let rows =
            self.plan.runs.iter().zip(&self.steps).zip(&self.seconds).map(|((run, steps), seconds)| {
                [
                    run.name.clone(),
                    format!("{:.3} M", run.parameters as f64 / 1e6),
                    format!("{:.3}", run.gmacs),
                    steps.map_or_else(|| run.length.to_string(), |steps| steps.to_string()),
                    seconds.map(|seconds| clock(seconds.ceil() as u64)).unwrap_or_default(),
                    run.state().to_string(),
                ]
            });
        let table: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
        let timed = self.seconds.iter().any(Option::is_some);
        let shown: Vec<usize> = (0..6).filter(|column| timed || *column != 4).collect();
        let pick = |row: &[String; 6]| shown.iter().map(|&column| row[column].clone()).collect::<Vec<_>>();
        let shown_rows: Vec<Vec<String>> = table.iter().map(pick).collect();
        let mut lines = aligned(&shown_rows, |place| !matches!(shown[place], 0 | 5));
        lines.push(self.total());
        lines.join("\n")
    }

    fn total(&self) -> String {
        let seconds: f64 = self.seconds.iter().flatten().sum();
        let time = clock((seconds / self.jobs as f64).ceil() as u64);
        let time = match (seconds > 0.0, self.jobs) {
            (false, _) => String::new(),
            (true, 1) => format!(", {time} of training"),
            (true, jobs) => format!(", {time} of training with {jobs} at once"),
        };
        format!("{} runs in {}{time}", self.plan.runs.len(), self.plan.root.display())
    }

    /// The manifest, with the state of each run.
    fn json(&self) -> Value {
        let mut manifest = self.plan.to_json(self.sweep);
        let runs = manifest.get_mut("runs").and_then(Value::as_array_mut).into_iter().flatten();
        for (at, value) in runs.enumerate() {
            value["steps"] = json!(self.steps[at]);
            value["seconds"] = json!(self.seconds[at]);
            value["state"] = json!(self.plan.runs[at].state().to_string());
        }
        manifest
    }
}
