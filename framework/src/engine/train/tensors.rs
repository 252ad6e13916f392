//! Parameters as named tensors, and back: what checkpoints and weights files hold.

use crate::nn::backend::{Values, download};
use crate::nn::{Error, Param, Result};
use crate::weights::{HostTensor, TensorMap};

/// The parameters under their names.
pub fn param_tensors(params: &[Param]) -> Result<TensorMap> {
    params.iter().map(|param| tensor(param, &param.values())).collect()
}

/// Values of the shape of a parameter, under its name.
pub fn tensor(param: &Param, values: &Values) -> Result<(String, HostTensor)> {
    let tensor = HostTensor::from_f32(param.shape().to_vec(), &download(values)?)
        .map_err(|error| Error::Shape(error.to_string()))?;
    Ok((param.name().to_owned(), tensor))
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
