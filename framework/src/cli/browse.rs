//! `convmae browse`: the data of a recipe on a page.

use std::path::PathBuf;

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use crate::engine::{self, BrowseOptions, EngineError};
use crate::report::write_dataset_page;
use crate::terminal::say;

/// Write the data of a recipe as one self-contained HTML page: samples before and after each transform, masks, boxes
/// and label maps, classes with their numbers, sizes and colours of the images, and damaged files.
///
/// Figures are of samples spread over the data, as many as `--read` says; numbers of images of a class are of all where the dataset knows
/// them. Transforms are those of the first epochs, masks those of the first step.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "data.html")]
    out: PathBuf,
    /// Samples of each split that are read for its figures; more than there are for all.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    read: usize,
    /// Samples of each split that are shown.
    #[arg(long, value_name = "N", default_value_t = 6)]
    show: usize,
    /// Epochs in which they are shown, each with other random numbers.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Also write the first training batch as safetensors, as the model gets it: `images` [B, C, H, W], normalised, with
    /// targets and masks under the names that `convmae trace --inputs` takes.
    #[arg(long, value_name = "FILE")]
    tensors: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<(), CliError> {
    let Args { recipe, out, read, show, epochs, tensors } = args;
    let options = BrowseOptions { sources: recipe.sources()?.0, read, shown: show, epochs, tensors };
    let view = engine::browse(&options)?;
    write_dataset_page(&view, &out).map_err(EngineError::from)?;
    let splits: Vec<_> =
        view.splits.iter().map(|split| format!("{} {} samples", split.split, split.samples)).collect();
    say(format!("{}: {}", splits.join(", "), out.display()));
    Ok(())
}
