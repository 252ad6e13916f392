//! What a checkpoint holds besides tensors, and parameters as tensors.

use serde::{Deserialize, Serialize};

use super::window::Sums;
use crate::data::CorruptSample;
use crate::nn::{Error, Param, Result};
use crate::weights::{HostTensor, TensorMap};

/// Where a run is, saved with every checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunState {
    /// Samples of the training set: another number would be another run.
    pub samples: usize,
    /// Seconds of training, over all sessions of the run.
    pub seconds: f64,
    /// The best value so far of the metric that decides.
    pub best: Option<f64>,
    /// The last evaluation; what is not finite is `None`.
    pub evaluation: Vec<(String, Option<f64>)>,
    /// Figures of training that are not recorded yet.
    pub window: Sums,
    /// What stands for the run whose weights it started from, if it did; also missing in checkpoints of older programs.
    #[serde(default)]
    pub init_from_digest: Option<String>,
    /// Unreadable samples met in training, over all sessions.
    pub corrupt_train: Vec<CorruptSample>,
    /// Unreadable samples met in validation, over all sessions.
    pub corrupt_val: Vec<CorruptSample>,
}

/// Values under their parameters' names.
pub fn tensors<'a>(values: impl Iterator<Item = (&'a Param, &'a [f32])>) -> TensorMap {
    let mut tensors = TensorMap::new();
    values.for_each(|(param, values)| insert(&mut tensors, param, values));
    tensors
}

/// The parameters under their names.
pub fn param_tensors(params: &[Param]) -> TensorMap {
    let mut tensors = TensorMap::new();
    params.iter().for_each(|param| insert(&mut tensors, param, &param.values()));
    tensors
}

fn insert(tensors: &mut TensorMap, param: &Param, values: &[f32]) {
    // The length is that of the parameter's shape.
    if let Ok(tensor) = HostTensor::from_f32(param.shape().to_vec(), values) {
        tensors.insert(param.name(), tensor);
    }
}

/// The saved values of a parameter.
pub fn restore_values(param: &Param, saved: &TensorMap) -> Result<Vec<f32>> {
    match saved.get(param.name()) {
        Some(tensor) if tensor.shape == param.shape() => Ok(tensor.to_f32()),
        Some(tensor) => Err(Error::Shape(format!(
            "`{}` has the shape {:?} in the checkpoint, {:?} in the model",
            param.name(),
            tensor.shape,
            param.shape()
        ))),
        None => Err(Error::Value(format!("the checkpoint has no `{}`", param.name()))),
    }
}

/// Restores the parameters.
pub fn restore_params(params: &[Param], saved: &TensorMap) -> Result<()> {
    for param in params {
        param.set(&restore_values(param, saved)?)?;
    }
    Ok(())
}
