//! Naming a recipe and overriding it.

use std::path::PathBuf;

use crate::recipe::Sources;

/// The recipe and what overrides it.
#[derive(Debug, clap::Args)]
pub struct RecipeArgs {
    /// The recipe.
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Set a value of the recipe, as `optimizer.lr=1e-3`; may be repeated. Comes last, after the environment
    /// (`CONVMAE_OPTIMIZER__LR=1e-3`).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl RecipeArgs {
    /// The path of the recipe.
    pub fn recipe_path(&self) -> PathBuf {
        self.recipe.clone()
    }

    /// The layers of the recipe.
    pub fn sources(&self) -> Sources {
        let mut sources = Sources { sets: self.sets.clone(), ..Sources::from_env(&self.recipe) };
        // The program's own variable.
        sources.environment.retain(|(name, _)| name != "CONVMAE_LOG");
        sources
    }
}
