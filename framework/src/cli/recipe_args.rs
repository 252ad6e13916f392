//! Naming a recipe and overriding it.

use std::path::PathBuf;

use crate::recipe::Sources;
use crate::shell::quote;

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
    /// This program with `command` and the arguments again, as one writes them in a shell; overrides from the environment are
    /// put in front.
    pub fn to_shell(&self, command: &str) -> String {
        let environment = self.sources().environment;
        let environment = environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
        let program = std::env::args().next().unwrap_or_else(|| "convmae".to_owned());
        let recipe = self.recipe.to_string_lossy();
        let sets = self.sets.iter().flat_map(|set| ["--set", set]);
        let words = [&*program, command, &*recipe].into_iter().chain(sets).map(quote);
        environment.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// The layers of the recipe.
    pub fn sources(&self) -> Sources {
        Sources { sets: self.sets.clone(), ..Sources::from_env(&self.recipe) }
    }
}
