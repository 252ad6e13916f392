//! Checkpoints of a run: complete or not at all, verified when read.
//!
//! A checkpoint is one sealed safetensors file, `step-00000120.safetensors`: the tensors by prefix (`model.`,
//! `optimizer.`, `ema.`), the rest of the state as JSON in the metadata, and a digest of it all. Two small
//! files, `last.json` and `best.json`, name a checkpoint and its digest. Everything is written under a
//! temporary name, synced and renamed, so a crash at any point leaves the checkpoints before it untouched.

mod pointer;
mod retention;
mod store;

use std::fmt;
use std::path::PathBuf;

use serde_json::Value as Json;
use thiserror::Error;

use crate::weights::{TensorMap, WeightsError};

pub use retention::Retention;
pub use store::CheckpointStore;

/// The state of a run after a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Optimizer steps taken.
    pub step: u64,
    /// All tensors, named by prefix: `model.*`, `optimizer.*`, `ema.*`.
    pub tensors: TensorMap,
    /// Everything else: schedules, random states, metrics.
    pub state: Json,
}

/// What a checkpoint is saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The latest state, to resume from.
    Last,
    /// The latest state, and the best by the run's metric; kept until a better one comes.
    Best,
}

/// The checkpoint to resume from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The newest intact checkpoint.
    pub checkpoint: Checkpoint,
    /// Newer ones that were passed over.
    pub refused: Vec<Refusal>,
}

/// A file that is not an intact checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Checkpoints could not be saved or loaded.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Reading or writing failed; the message names the operation and the path.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file is not an intact checkpoint.
    #[error("checkpoint refused: {0}")]
    Refused(Refusal),
    /// There are checkpoints, but none is intact.
    #[error("no intact checkpoint in {}:{}", directory.display(), list(refused))]
    AllRefused {
        /// The checkpoint directory.
        directory: PathBuf,
        /// Every file tried.
        refused: Vec<Refusal>,
    },
}

fn list(refused: &[Refusal]) -> String {
    refused.iter().flat_map(|refusal| ["\n  ".to_owned(), refusal.to_string()]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
