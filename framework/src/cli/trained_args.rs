//! Arguments that name a trained model: a run, or a recipe with weights.

use std::path::{Path, PathBuf};

use super::output::CliError;
use super::recipe_args::RecipeArgs;
use crate::engine::{RunWeights, TrainedOptions, checkpoint_of_run, weights_of_run};
use crate::report::{ReportError, RunDir, similar_run};

/// The model.
#[derive(Debug, clap::Args)]
pub struct TrainedArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The weights (.safetensors, .pth, .pkl, an index of parts or their folder), or a checkpoint of a run. For a run's directory in the place of
    /// the recipe its final weights if left out, `best` for its best checkpoint by the metric that decides, `last` for its last one.
    #[arg(long, value_name = "FILE|best|last")]
    weights: Option<PathBuf>,
    /// The entry of the weights file that holds the model, as `model_ema` or `teacher`.
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
}

impl TrainedArgs {
    /// The recipe and the weights.
    pub fn options(&self) -> Result<TrainedOptions, CliError> {
        let (sources, run) = self.recipe.sources()?;
        run.iter().try_for_each(|root| check_intact(root)).map_err(crate::engine::EngineError::from)?;
        let weights = match (&self.weights, &run) {
            (Some(weights), Some(root)) => match RunWeights::named(weights) {
                Some(which) => checkpoint_of_run(root, which)?,
                None => weights.clone(),
            },
            (Some(weights), None) if RunWeights::named(weights).is_some() => {
                return Err(CliError::Usage {
                    message: format!("--weights {}: of which run?", weights.display()),
                    help: Some("give the directory of a run in the place of the recipe".to_owned()),
                });
            }
            (Some(weights), None) => weights.clone(),
            (None, Some(root)) => weights_of_run(root)?,
            (None, None) if !sources.recipe.exists() => {
                let message = format!("{}: there is no such run or recipe", sources.recipe.display());
                return Err(CliError::Usage { message, help: similar_run(&sources.recipe) });
            }
            (None, None) => {
                return Err(CliError::Usage {
                    message: "which weights? `--weights` is missing".to_owned(),
                    help: Some(
                        "name a weights file, or give the directory of a run in the place of the recipe"
                            .to_owned(),
                    ),
                });
            }
        };
        Ok(TrainedOptions { sources, weights, entry: self.entry.clone() })
    }
}

/// That the recipe of a run is as it was written.
fn check_intact(root: &Path) -> Result<(), ReportError> {
    RunDir::inspect(root)?.read_recipe().map(|_| ())
}
