//! `convmae runs prune`: removes checkpoints that are no longer wanted.

use std::path::PathBuf;

use crate::cli::output::{CliError, print};
use crate::component::Span;
use crate::condition::Test;
use crate::engine::{EngineError, PruneOptions, Pruned, prune};
use crate::report::ReportError;
use crate::runs::{RunsError, filter, megabytes, scan};
use crate::terminal::say;

/// Remove checkpoints of runs, by the rule of each run's recipe (`checkpoint.keep`, `keep_best`, `keep_every`) or another one.
/// What is removed cannot be brought back; `--dry-run` only lists it.
///
/// Final weights, figures, pictures and reports stay, and so does the newest checkpoint, from which a run is resumed or trained
/// longer, unless `--last` says otherwise. Runs at work are left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder with run directories, at any depth.
    #[arg(value_name = "DIR", default_value = "runs")]
    directory: PathBuf,
    /// Only runs in which a column is as asked, as for `convmae runs`; may be repeated.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    tests: Vec<String>,
    /// Keep so many of the newest checkpoints, at least one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Keep so many of the best ones.
    #[arg(long, value_name = "N")]
    keep_best: Option<u32>,
    /// Keep one of every so much, as `'10 epochs'`.
    #[arg(long, value_name = "LENGTH")]
    keep_every: Option<Span>,
    /// Of finished runs remove the newest ones, too: they can then neither be trained longer nor repaired.
    #[arg(long)]
    last: bool,
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let tests: Vec<Test> =
        args.tests.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(RunsError::from)?;
    let frame = filter(&scan(&args.directory)?.frame, &tests)?;
    let count = |count: Option<u32>| count.map(|count| count as usize);
    let options = PruneOptions {
        keep: count(args.keep),
        keep_best: count(args.keep_best),
        keep_every: args.keep_every,
        last: args.last,
        dry_run: args.dry_run,
    };
    let (mut files, mut bytes, mut failure) = (0, 0, None);
    for run in
        frame.column("run").and_then(|runs| runs.str().cloned()).map_err(RunsError::from)?.iter().flatten()
    {
        match prune(&args.directory.join(run), &options) {
            Ok(pruned) => {
                tell(run, &pruned, args.dry_run)?;
                (files, bytes) = (files + pruned.removed.len(), bytes + pruned.bytes);
            }
            Err(EngineError::Report(ReportError::Locked { .. })) => {
                say(format!("{run}: left alone, it is at work"));
            }
            Err(error) => {
                say(format!("{run}: left alone: {error}"));
                failure = failure.or(Some(error));
            }
        }
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    say(format!("{files} checkpoints {done}, {} MB", megabytes(bytes)));
    failure.map_or(Ok(()), |error| Err(error.into()))
}

fn tell(run: &str, pruned: &Pruned, dry_run: bool) -> Result<(), CliError> {
    if pruned.removed.is_empty() {
        return Ok(());
    }
    let names = pruned.removed.iter().filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let done = if dry_run { "would go" } else { "removed" };
    let left = pruned.left;
    print(&format!("{run}: {done} {}; {left} left, {} MB freed", names.join(", "), megabytes(pruned.bytes)))
}
