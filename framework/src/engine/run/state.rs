//! What a checkpoint holds besides tensors.

use serde::{Deserialize, Serialize};

use super::early_stop::Waited;
use crate::engine::setup::IndexDigests;
use crate::engine::train::Sums;
use crate::loader::CorruptSample;

/// Where a run is, saved with every checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunState {
    /// Samples of the training set: another number would be another run.
    pub samples: usize,
    /// Processes whose batches are normalised together (`sync`); 1 in checkpoints of older programs.
    #[serde(default = "one")]
    pub normalized_together: usize,
    /// Seconds of training, over all sessions of the run.
    pub seconds: f64,
    /// The best value so far of the metric that decides.
    pub best: Option<f64>,
    /// What has come of waiting for something better; missing in checkpoints of older programs.
    #[serde(default)]
    pub waited: Waited,
    /// The last evaluation; what is not finite is `None`.
    pub evaluation: Vec<(String, Option<f64>)>,
    /// The resolved recipe as the run directory holds it, and the figures recorded so far: what restores
    /// these files when they are damaged. Missing in checkpoints of older programs.
    #[serde(default)]
    pub recipe: Option<String>,
    /// As the bytes of a file, in base64.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Figures of training that are not recorded yet.
    pub window: Sums,
    /// What stands for the run whose weights it started from, if it did; also missing in checkpoints of older
    /// programs.
    #[serde(default)]
    pub init_from_digest: Option<String>,
    /// What stands for the training and the validation set wherever they lie; also missing in checkpoints of
    /// older programs.
    #[serde(default)]
    pub index_digests: IndexDigests,
    /// Unreadable samples met in training, over all sessions.
    pub corrupt_train: Vec<CorruptSample>,
    /// Unreadable samples met in validation, over all sessions.
    pub corrupt_val: Vec<CorruptSample>,
}

fn one() -> usize {
    1
}
