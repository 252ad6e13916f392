//! `convmae table`: a table of results.

use std::path::PathBuf;

use super::complete;
use super::file_kind::FileKind;
use super::output::{CliError, print};
use crate::table::{Format, Table, TableError};
use crate::weights::atomic;

/// Print a table of results: rows of recipes and sweeps filled from their run directories, beside the figures
/// of papers.
///
/// A run of another recipe is not shown; a missing run has a note with the command that makes it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The table, such as `recipes/tables/imagenet.yaml`.
    #[arg(value_name = "TABLE", add = complete::yaml())]
    table: PathBuf,
    /// Its format. If left out, that of the ending of `--out` (`.md`, `.tex`, `.csv`, `.html`), or Markdown.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write it to a file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make the runs that are missing first, one after the other, by `convmae run` and `convmae sweep`.
    #[arg(long)]
    run: bool,
    /// Where the run directories are.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// Name the run directory, recipe, digest and commit behind every figure.
    #[arg(long)]
    sources: bool,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let format = args.format()?;
    FileKind::Table.expect(&args.table)?;
    let mut table = Table::load(&args.table, &args.runs)?;
    let produced = if args.run { table.produce() } else { Ok(()) };
    // What has been made is shown, whatever failed.
    if let Err(error @ (TableError::Start { .. } | TableError::Signals(_))) = produced {
        return Err(error.into());
    }
    if args.run {
        // Patterns match what has been made.
        table = Table::load(&args.table, &args.runs)?;
    }
    let text = table.sheet()?.render(format, args.sources);
    match &args.out {
        Some(path) => {
            atomic::write_bytes(path, text).map_err(TableError::from)?;
        }
        None => print(&text)?,
    }
    Ok(produced?)
}

impl Args {
    fn format(&self) -> Result<Format, TableError> {
        match (self.format, &self.out) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Markdown),
            (None, Some(file)) => Format::of_file(file).ok_or_else(|| TableError::Ending(file.clone())),
        }
    }
}
