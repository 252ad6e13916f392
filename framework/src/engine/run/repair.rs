//! Damaged files of a run that is taken up again: made anew from its last checkpoint, or refused by name.

use std::path::Path;

use super::state::RunState;
use crate::engine::EngineError;
use crate::engine::train::checkpoint::CheckpointStore;
use crate::report::{ReportError, RunDir, write_page};

/// Restores the recipe at `root` if it is damaged. Tells whether the other files that the run has left are
/// intact: if not, they are to be written again.
///
/// # Errors
/// The damaged file, if there is no checkpoint to restore it from.
pub fn prepare(root: &Path) -> Result<bool, EngineError> {
    let dir = RunDir::inspect(root)?;
    if let Err(damage) = dir.read_recipe() {
        restore_recipe(root, damage)?;
    }
    // Until then they are written anew in any case.
    if !dir.says_finished() {
        return Ok(true);
    }
    let Err(damage) = dir.verify() else { return Ok(true) };
    if !CheckpointStore::any_in(&dir.checkpoints()) {
        return Err(EngineError::Usage(format!(
            "{damage}; there is no checkpoint to restore it from: remove the file to train again"
        )));
    }
    tracing::warn!("{damage}; it is written again from the last checkpoint");
    Ok(false)
}

/// Writes the page of a finished run if it is missing.
pub fn write_missing_page(dir: &RunDir) -> Result<(), ReportError> {
    let is_missing = dir.says_finished() && dir.weights().is_file() && !dir.report().is_file();
    if is_missing { write_page(dir) } else { Ok(()) }
}

fn restore_recipe(root: &Path, damage: ReportError) -> Result<(), EngineError> {
    let dir = RunDir::open(root)?;
    let saved = match CheckpointStore::any_in(&dir.checkpoints()) {
        true => CheckpointStore::open(dir.checkpoints())?.load_last()?,
        false => None,
    };
    let state = saved.and_then(|loaded| serde_json::from_value::<RunState>(loaded.checkpoint.state).ok());
    let Some(recipe) = state.and_then(|state| state.recipe) else {
        return Err(damage.into());
    };
    tracing::warn!("{damage}; it is restored from the last checkpoint");
    Ok(dir.replace_recipe(&recipe)?)
}
