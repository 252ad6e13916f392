//! `convmae runs`: a table of run directories.

mod prune;

use std::path::PathBuf;

use terminal_size::{Width, terminal_size};

use super::complete;
use super::output::{CliError, print};
use crate::condition::Test;
use crate::runs::{
    Format, Runs, RunsError, filter, overview, scan, select, sort, with_short_names, with_sizes,
};
use crate::terminal::say;

/// List runs, filtered and sorted by their figures and the keys of their recipes.
///
/// Columns: `run`, `status`, `name`, `seed`, `step`, `epoch`, `seconds`, `parameters`, `gmacs`, `best`,
/// `digest`, `metrics.NAME` (the last evaluation), `train.NAME`, and `recipe.KEY` for every key of the
/// resolved recipe (list items by index).
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The folder with run directories, at any depth.
    #[arg(value_name = "DIR", default_value = "runs", add = complete::runs())]
    directory: PathBuf,
    /// Only runs in which a column is as asked: `--where 'metrics.top1 > 80'`, with `=`, `!=`, `<`, `<=`,
    /// `>`, `>=`; may be repeated, for all at once. `= [a, b]` is either, `= null` is none, and in a text `*`
    /// stands for anything.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    tests: Vec<String>,
    /// Sort by these columns; `-` in front of one puts the largest first.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', allow_hyphen_values = true)]
    sort: Vec<String>,
    /// Show these columns; in a name `*` stands for anything: `metrics.*`. Metrics and all keys that differ
    /// if left out, in a table by their shortest names.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    columns: Vec<String>,
    /// Tell how much room each takes on the disk: the columns `size_mb`, in millions of bytes, and `checkpoints_percent`, the
    /// share of its checkpoints.
    #[arg(long)]
    size: bool,
    /// How to print them. A table that is wider than the terminal goes on below itself.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// At most so many runs.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Prune(prune::Args),
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    if let Some(Command::Prune(args)) = &args.command {
        return prune::run(args);
    }
    let tests: Vec<Test> =
        args.tests.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(RunsError::from)?;
    let Runs { mut frame, broken } = scan(&args.directory)?;
    for (run, reason) in broken {
        tracing::warn!("{run} is unreadable: {reason}");
    }
    if frame.height() == 0 {
        say(format!("there are no runs in {}", args.directory.display()));
    }
    if args.size {
        frame = with_sizes(frame, &args.directory)?;
    }
    frame = filter(&frame, &tests)?;
    if !args.sort.is_empty() {
        frame = sort(&frame, &args.sort)?;
    }
    frame = frame.head(args.limit.or(Some(frame.height())));
    frame = match args.columns.as_slice() {
        [] if args.format == Format::Table => with_short_names(&overview(&frame)?)?,
        [] => overview(&frame)?,
        columns => select(&frame, columns)?,
    };
    // None where standard output is no terminal.
    let width = terminal_size().map(|(Width(width), _)| usize::from(width));
    print(&args.format.print(&frame, width)?)
}
