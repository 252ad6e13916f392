//! `convmae completions`: lets a shell complete commands.

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap_complete::env::Shells;

use super::complete;
use super::output::{CliError, print};
use crate::shell;

/// Print a script that lets a shell complete commands, components, recipes, runs, and the keys of recipes.
///
/// bash: `source <(convmae completions bash)` in `~/.bashrc`; zsh: the same in `~/.zshrc`; fish: `convmae completions fish | source` in
/// `~/.config/fish/config.fish`. The script asks the program for what fits, so that it knows the components of a plug-in, too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    #[arg(value_name = "SHELL", value_parser = PossibleValuesParser::new(Shells::builtins().names()))]
    shell: String,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let program = shell::program();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    // What is not found on the path is called where it lies.
    let called = match (Path::new(&program).components().count(), std::env::current_exe()) {
        (2.., Ok(path)) => path.to_string_lossy().into_owned(),
        _ => program.clone(),
    };
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(&args.shell) {
        completer.write_registration(complete::VARIABLE, &name, &name, &called, &mut script)?;
    }
    print(&String::from_utf8_lossy(&script))
}
