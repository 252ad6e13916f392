//! `convmae man`: manual pages.

use std::path::PathBuf;

use clap::CommandFactory;

use super::output::CliError;
use crate::terminal::say;

/// Write manual pages into a folder, one a command: `convmae man ~/.local/share/man/man1`, then `man convmae-run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs the subcommand.
pub fn run<C: CommandFactory>(args: &Args) -> Result<(), CliError> {
    let folder = &args.folder;
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(C::command(), folder));
    written.map_err(|error| CliError::Usage {
        message: format!("cannot write the manual to {}: {error}", folder.display()),
        help: None,
    })?;
    say(format!("manual pages: {}", folder.display()));
    Ok(())
}
