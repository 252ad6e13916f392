//! `convmae init`: the weights that a training starts from.

use std::path::PathBuf;

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use super::weights_target::WeightsTarget;
use crate::engine::{self, EngineError};
use crate::terminal::say;

/// Write the weights that a training of a recipe starts from, to compare with another implementation, or to start
/// several trainings of them.
///
/// They depend on the seed and on the names of the parameters; `init_from` is applied. Names are the official ones.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The file to write, `.safetensors` or `.pth`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let target = WeightsTarget::named(&args.out)?;
    let (tensors, metadata) = engine::initial_weights(&args.recipe.sources()?.0)?;
    target.write(&tensors, metadata).map_err(EngineError::from)?;
    say(format!("{} tensors, {} values: {}", tensors.len(), tensors.elements(), args.out.display()));
    Ok(())
}
