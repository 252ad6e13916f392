//! `convmae trace`: run the graph on given tensors.

use std::path::PathBuf;

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use crate::engine::{self, TraceOptions};

/// Run the graph on given tensors and write what every node yields, to compare with another implementation.
///
/// The inputs are a safetensors file with `images` [B, 3, H, W], normalised, and whatever the pass would draw
/// at random (`noise` [B, L] for the masks). A head of classes also needs `labels` [B], and takes
/// `mixed_labels` [B] with `mixed_share` [B]; one of pixels `label_maps` [B, H, W]; those of objects `boxes`
/// [N, 4] in pixels, `box_classes` [N], `box_images` [N] and `box_masks` [N, H, W]. Padded images have
/// `sizes` [B, 2].
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Weights of the model (.safetensors or .pth); the recipe's initial ones if left out.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The tensors to run on.
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Run in training mode and write the gradient of every parameter.
    #[arg(long)]
    grads: bool,
    /// Take optimizer steps on the inputs, as epochs of one batch; `noise` is then [steps, B, L].
    #[arg(long, value_name = "N", conflicts_with = "grads", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<(), CliError> {
    let Args { recipe, weights, inputs, out, grads, steps } = args;
    let options = TraceOptions { sources: recipe.sources()?.0, weights, inputs, out, grads, steps };
    Ok(engine::trace(&options)?)
}
