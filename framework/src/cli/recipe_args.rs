//! Arguments that name a recipe and override its keys.

use std::path::{Path, PathBuf};

use super::complete;
use super::file_kind::FileKind;
use super::output::CliError;
use crate::recipe::Sources;
use crate::report::RunDir;
use crate::shell;

/// The recipe and what overrides it.
#[derive(Debug, clap::Args)]
pub struct RecipeArgs {
    /// The recipe. A command that can do without one says so.
    #[arg(value_name = "RECIPE", required = true, add = complete::recipe())]
    recipe: Option<PathBuf>,
    /// Set a value of the recipe, as `optimizer.lr=1e-3`; may be repeated. Comes after the environment
    /// (`CONVMAE_OPTIMIZER__LR=1e-3`).
    #[arg(long = "set", value_name = "KEY=VALUE", add = complete::assignments())]
    sets: Vec<String>,
    /// Set `seed`, above `--set`.
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Set `device`, as `cpu` or `cuda:1`, above `--set`.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl RecipeArgs {
    /// This program with `command` and the arguments again, as one writes them in a shell; overrides from the
    /// environment are put in front.
    pub fn to_shell(&self, command: &str) -> String {
        let (program, recipe) = (shell::program(), self.recipe().to_string_lossy());
        let sets = self.sets.iter().map(|set| ("--set".to_owned(), set.clone()));
        let flags = self.flags().into_iter().map(|(key, value)| (format!("--{key}"), value));
        let words = [program, command.to_owned(), recipe.into_owned()];
        shell::command(
            &Sources::from_env(self.recipe()).environment,
            words.into_iter().chain(sets.chain(flags).flat_map(|(flag, value)| [flag, value])),
        )
    }

    /// The layers of the recipe. Where the directory of a run stands in its place they are those of the run's
    /// recipe, and the directory is returned, too.
    ///
    /// # Errors
    /// If it is a file for another command.
    pub fn sources(&self) -> Result<(Sources, Option<PathBuf>), CliError> {
        let mut sources =
            Sources { sets: self.sets.clone(), flags: self.flags(), ..Sources::from_env(self.recipe()) };
        if let Ok(run) = RunDir::inspect(&sources.recipe) {
            let root = std::mem::replace(&mut sources.recipe, run.recipe());
            return Ok((sources, Some(root)));
        }
        FileKind::Recipe.expect(&sources.recipe)?;
        Ok((sources, None))
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [("seed", &self.seed), ("device", &self.device)];
        flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }

    fn recipe(&self) -> &Path {
        self.recipe.as_deref().unwrap_or(Path::new(""))
    }
}
