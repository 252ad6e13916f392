//! `convmae embed`: features of images.

mod file;

use std::path::PathBuf;

use super::output::CliError;
use super::trained_args::TrainedArgs;
use crate::component::Pooling;
use crate::engine::{self, EmbedOptions, EngineError};
use crate::report::write_map_page;
use file::FeatureFile;

/// Write the features of images, one vector an image: for a nearest-neighbour search, a plot, a classifier elsewhere.
///
/// `convmae embed runs/NAME photos --out features.npy` uses a run, of whatever task, `convmae embed RECIPE photos
/// --weights FILE` any weights file. Images are prepared by the transforms of the recipe's validation set, and go
/// through the backbone and the necks as a whole: nothing is masked. A norm of a head (`fc_norm`) is not applied.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: TrainedArgs,
    /// The images: files, patterns, folders with all images below them.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The file to write. `.parquet`: a row an image with its path and its features, written as they come. `.npy`:
    /// `[images, channels]`, and the paths line by line in a `.txt` beside it. `.safetensors`: the same as the tensor
    /// `features`, the paths as JSON in its metadata.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which features: a backbone or a neck, or one of its levels, as in `backbone.s2`; the last level of the last one
    /// if left out.
    #[arg(long, value_name = "NODE.LEVEL")]
    level: Option<String>,
    /// What of the tokens stands for an image; with `none` each is written, `[images, tokens, channels]`.
    #[arg(long, value_name = "HOW", default_value = "mean")]
    pool: Pooling,
    /// Also write a page with the features in two dimensions (principal components), a dot an image, of a thousand at most; images of a
    /// folder have the same colour.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn run(args: Args) -> Result<(), CliError> {
    let Args { model, images, out, level, pool, map } = args;
    let mut file = FeatureFile::create(&out)?;
    let options =
        EmbedOptions { trained: model.options()?, images, level, pooling: pool, map: map.is_some() };
    let found = engine::embed(&options, |embedding| file.add(embedding))?;
    let told = file.finish()?;
    tracing::info!("{}: {told}", out.display());
    if let (Some(path), Some(found)) = (map, found) {
        let title = format!("Features of {} images", found.points.len());
        write_map_page(&found, &title, &path).map_err(EngineError::from)?;
    }
    Ok(())
}
