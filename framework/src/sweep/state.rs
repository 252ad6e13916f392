//! What a run directory tells of its run.

use std::fmt;

use serde_json::Value;

use super::plan::PlannedRun;
use crate::engine::checkpoint::CheckpointStore;
use crate::report::{RunDir, Summary};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It has not begun.
    Waiting,
    /// It was stopped, or runs now; its last checkpoint is that of this step.
    Interrupted(u64),
    /// It is finished, with this very recipe.
    Finished,
    /// It failed.
    Failed,
    /// There is a run of another recipe.
    Other,
}

impl PlannedRun {
    /// How far it is, by its directory.
    pub fn state(&self) -> RunState {
        let Ok(dir) = RunDir::inspect(&self.directory) else { return RunState::Waiting };
        let summary = Summary::read(&dir.summary()).unwrap_or_default();
        let text = |name| summary.get(name).and_then(Value::as_str);
        let same = text("recipe_digest").is_none_or(|digest| digest == self.digest);
        match text("status") {
            _ if !same => RunState::Other,
            Some("finished") => RunState::Finished,
            Some("failed") => RunState::Failed,
            _ => RunState::Interrupted(CheckpointStore::last_in(&dir.checkpoints()).unwrap_or(0)),
        }
    }

    /// Whether its directory holds a finished run, of this recipe or of one that gives the same results.
    pub(super) fn is_finished(&self) -> bool {
        let summary = RunDir::inspect(&self.directory).and_then(|dir| Summary::read(&dir.summary()));
        summary.is_ok_and(|summary| summary.get("status").is_some_and(|status| status == "finished"))
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Interrupted(step) => write!(f, "interrupted at step {step}"),
            Self::Finished => f.write_str("finished"),
            Self::Failed => f.write_str("failed"),
            Self::Other => f.write_str("another recipe"),
        }
    }
}
