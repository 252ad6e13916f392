//! `convmae export`: weights for other tools.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::output::CliError;
use super::trained_args::TrainedArgs;
use super::weights_target::WeightsTarget;
use crate::engine::{self, EngineError};
use crate::terminal::say;
use crate::weights::names::{Layout, Renaming};
use crate::weights::{TensorMap, WeightsError};

/// Write the weights of a trained model for other tools, of all of it or of one of its parts.
///
/// `convmae export runs/NAME --node backbone --out backbone.pth` writes what the official repositories and detectron2's or timm's
/// `ViT` load, in a file with the tensors alone. With `--layout` the names are those of another library.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    /// The file to write, `.safetensors` or `.pth`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A node of the model, as `backbone`, whose weights alone are written, as those of a model of its own.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The names of another library in place of the official ones, as of `convmae convert --layout`.
    #[arg(long, value_name = "LAYOUT", value_parser = PossibleValuesParser::new(Layout::all().iter().map(|layout| layout.name)))]
    layout: Option<String>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), CliError> {
    let target = WeightsTarget::named(&args.out)?;
    let (mut tensors, metadata) = engine::export(&args.model.options()?, args.node.as_deref())?;
    if let Some(layout) = args.layout.as_deref().and_then(Layout::find) {
        tensors = translated(tensors, layout, args)?;
    }
    target.write(&tensors, metadata).map_err(EngineError::from)?;
    say(format!("{} tensors, {} values: {}", tensors.len(), tensors.elements(), args.out.display()));
    Ok(())
}

/// Under the names of a layout, which must have one for each.
fn translated(tensors: TensorMap, layout: &Layout, args: &Args) -> Result<TensorMap, CliError> {
    let unnamed = layout.unnamed(tensors.names());
    if let Some(first) = unnamed.first() {
        return Err(CliError::Usage {
            message: format!("{} tensors have no name in {}: `{first}` ..", unnamed.len(), layout.title),
            help: Some(
                "`--node backbone` leaves out heads; without `--layout` the names are the official ones"
                    .to_owned(),
            ),
        });
    }
    let refuse = |reason| EngineError::from(WeightsError::Format { path: args.out.clone(), reason });
    let mut renaming = Renaming::new(&tensors);
    layout.of_official(&mut renaming).map_err(refuse)?;
    Ok(renaming.apply(tensors).map_err(refuse)?)
}
