//! Which command a file is for.

use std::path::Path;

use serde_yaml::Value;

use super::output::CliError;
use crate::shell::quote;

/// A file that a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A recipe.
    Recipe,
    /// Runs of recipes.
    Sweep,
    /// A table of their results.
    Table,
    /// Tensors.
    Weights,
}

impl FileKind {
    /// That a file, as far as it can be told, is of this kind.
    ///
    /// # Errors
    /// What it is, and the command for it.
    pub fn expect(self, path: &Path) -> Result<(), CliError> {
        match Self::of(path) {
            Some(found) if found != self => Err(CliError::Usage {
                message: format!("{} is {}, not {}", path.display(), found.name(), self.name()),
                help: Some(found.command(&quote(&path.to_string_lossy()))),
            }),
            _ => Ok(()),
        }
    }

    /// Told by its name, or by the keys that only such a file has.
    fn of(path: &Path) -> Option<Self> {
        const WEIGHTS: [&str; 6] = ["safetensors", "pth", "pt", "pkl", "ckpt", "bin"];
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if WEIGHTS.contains(&extension) {
            return path.is_file().then_some(Self::Weights);
        }
        let is_yaml = ["yaml", "yml"].contains(&extension) && path.is_file();
        let text = is_yaml.then(|| std::fs::read_to_string(path).ok()).flatten()?;
        let keys: Value = serde_yaml::from_str(&text).ok()?;
        let has = |key: &str| keys.get(key).is_some();
        if has("model") || has("extends") {
            Some(Self::Recipe)
        } else if has("columns") && has("rows") {
            Some(Self::Table)
        } else if has("recipe") || has("stages") {
            Some(Self::Sweep)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Recipe => "a recipe",
            Self::Sweep => "a sweep",
            Self::Table => "a table",
            Self::Weights => "a weights file",
        }
    }

    fn command(self, path: &str) -> String {
        match self {
            Self::Recipe => format!("`convmae run {path}` does it, `convmae check {path}` checks it"),
            Self::Sweep => format!("`convmae sweep {path}` does it, with `--dry-run` it is only checked"),
            Self::Table => format!("`convmae table {path}` fills it"),
            Self::Weights => {
                format!(
                    "`convmae eval RECIPE --weights {path}` evaluates them, `convmae convert --list {path}` lists them"
                )
            }
        }
    }
}
