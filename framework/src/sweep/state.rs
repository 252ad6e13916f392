//! The states of runs, read from their directories.

use std::fmt;

use serde_json::Value;

use super::plan::PlannedRun;
use crate::engine::train::checkpoint::CheckpointStore;
use crate::engine::{changes_since, lineage, lineage_of, source_of, started_from};
use crate::report::{RunDir, Summary};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It has not begun.
    Waiting,
    /// A process does it now.
    Running,
    /// It was stopped; its last checkpoint is that of this step.
    Interrupted(u64),
    /// It is finished, with this recipe or one that gives the same results.
    Finished,
    /// It failed.
    Failed,
    /// There is a run of another recipe.
    Other,
    /// The run that it started from is, or will be, another one now.
    SourceChanged,
}

impl PlannedRun {
    /// How far it is, by its directory.
    pub fn state(&self) -> RunState {
        if RunDir::is_held(&self.directory) {
            return RunState::Running;
        }
        let Ok(dir) = RunDir::inspect(&self.directory) else { return RunState::Waiting };
        let source = match &self.source {
            Some(source) => Some(source.lineage()),
            None => source_of(&self.recipe),
        };
        let changes = changes_since(&dir, &self.recipe, &self.digest, source.as_deref());
        if !changes.is_ok_and(|changes| changes.is_empty()) {
            return RunState::Other;
        }
        if self.source_has_changed() {
            return RunState::SourceChanged;
        }
        let summary = Summary::read(&dir.summary()).unwrap_or_default();
        match summary.get("status").and_then(Value::as_str) {
            // What was removed, and cannot be made again but by training, is not missed.
            Some("finished") if dir.is_finished() || !CheckpointStore::any_in(&dir.checkpoints()) => {
                RunState::Finished
            }
            Some("failed") => RunState::Failed,
            _ => RunState::Interrupted(CheckpointStore::last_in(&dir.checkpoints()).unwrap_or(0)),
        }
    }

    /// Whether its files are as they were written, so far as others depend on them.
    pub(super) fn is_intact(&self) -> bool {
        RunDir::inspect(&self.directory).is_ok_and(|dir| dir.verify().is_ok())
    }

    /// What the user can do where its source has changed: only they may give up the results there.
    pub(super) fn advice(&self) -> String {
        let source = self.source.as_ref().map(|source| source.directory.display().to_string());
        format!(
            "its source has changed: it started from {} as it was before; remove {} to run it again",
            source.unwrap_or_default(),
            self.directory.display()
        )
    }

    /// Whether it started from another run than there is now, or will be once the sweep has done it.
    fn source_has_changed(&self) -> bool {
        let source = self.source.as_ref();
        source.zip(started_from(&self.directory)).is_some_and(|(source, then)| source.lineage() != then)
    }

    /// What stands for it in runs that start from it, now or once it is done.
    fn lineage(&self) -> String {
        let held = match self.state() {
            RunState::Finished => lineage_of(&self.directory),
            _ => None,
        };
        held.unwrap_or_else(|| {
            lineage(&self.digest, self.source.as_ref().map(|source| source.lineage()).as_deref())
        })
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting"),
            Self::Running => f.write_str("running"),
            Self::Interrupted(step) => write!(f, "interrupted at step {step}"),
            Self::Finished => f.write_str("finished"),
            Self::Failed => f.write_str("failed"),
            Self::Other => f.write_str("another recipe"),
            Self::SourceChanged => f.write_str("its source has changed"),
        }
    }
}
