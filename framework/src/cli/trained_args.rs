//! Arguments that name a trained model: a run, or a recipe with weights.

use std::path::{Path, PathBuf};

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use crate::engine::{TrainedOptions, weights_of_run};
use crate::report::{ReportError, RunDir};

/// The model.
#[derive(Debug, clap::Args)]
pub struct TrainedArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The weights (.safetensors or .pth), or a checkpoint of a run; for a run's directory in the place of
    /// the recipe its final weights if left out.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

impl TrainedArgs {
    /// The recipe and the weights.
    pub fn options(&self) -> Result<TrainedOptions, CliError> {
        let mut sources = self.recipe.sources();
        let root = std::mem::take(&mut sources.recipe);
        let is_run = RunDir::is_run(&root);
        sources.recipe = match is_run {
            true => intact_recipe(&root).map_err(crate::engine::EngineError::from)?,
            false => root.clone(),
        };
        let weights = match &self.weights {
            Some(weights) => weights.clone(),
            None if is_run => weights_of_run(&root)?,
            None => {
                return Err(CliError::Usage {
                    message: "which weights? `--weights` is missing".to_owned(),
                    help: Some(
                        "name a weights file, or give the directory of a run in the place of the recipe"
                            .to_owned(),
                    ),
                });
            }
        };
        Ok(TrainedOptions { sources, weights })
    }
}

/// The recipe of a run, which is as it was written.
fn intact_recipe(root: &Path) -> Result<PathBuf, ReportError> {
    let dir = RunDir::inspect(root)?;
    dir.read_recipe()?;
    Ok(dir.recipe())
}
