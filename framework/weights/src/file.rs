//! What a weights file holds, whatever its format.

use serde_json::{Map, Value as Json};

use super::map::TensorMap;

/// The content of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightsFile {
    /// The model's tensors under the model's own names: wrappers such as `{"model": ..}` are removed.
    pub tensors: TensorMap,
    /// The moving averages of the model's tensors, if the file is a checkpoint that has them: what training
    /// evaluates.
    pub ema: Option<TensorMap>,
    /// The optimizer's state, if the file has one and it was asked for.
    pub optimizer: Option<OptimizerState>,
    /// What else the file holds (epoch, arguments, ..), as plain values.
    pub metadata: Map<String, Json>,
}

/// The state of an optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    /// `<index>.<name>`, as `0.exp_avg`; the index counts parameters over all groups. Plain numbers, such as
    /// the `step` of old files, become scalars.
    pub tensors: TensorMap,
    /// The groups with their settings; null if the file does not say.
    pub param_groups: Json,
}

/// How much of a file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Model,
    All,
}
