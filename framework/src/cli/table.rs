//! `convmae table`: a table of results.

use std::path::PathBuf;

use super::{CliError, print};
use crate::table::{Format, Table, TableError};

/// Print a table of results: rows of recipes and sweeps filled from their run directories, beside the figures of papers.
///
/// A run of another recipe is not shown; a missing run has a note with the command that makes it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The table, such as `recipes/tables/imagenet.yaml`.
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// Its format; that of the ending of `--out`, or Markdown, if left out.
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
    let table = Table::load(&args.table, &args.runs)?;
    let produced = if args.run { table.produce() } else { Ok(()) };
    // What has been made is shown, whatever failed.
    if let Err(error @ TableError::Start { .. }) = produced {
        return Err(error.into());
    }
    let extension =
        args.out.as_ref().and_then(|path| path.extension()).and_then(|extension| extension.to_str());
    let format = args.format.or_else(|| Format::of_extension(extension?)).unwrap_or(Format::Markdown);
    let text = table.sheet()?.render(format, args.sources);
    match &args.out {
        Some(path) => {
            std::fs::write(path, text).map_err(|source| TableError::Write { path: path.clone(), source })?;
        }
        None => print(&text)?,
    }
    Ok(produced?)
}
