//! Parameters as named tensors, and back: what checkpoints and weights files hold.

use crate::nn::{Error, Param, Result};
use crate::weights::{HostTensor, TensorMap};

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
