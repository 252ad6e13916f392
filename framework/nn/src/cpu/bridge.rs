//! Between tensors of dfdx and memory of kernels.

use dfdx::shapes::HasShape as _;
use dfdx::tensor::{Storage, TensorFromVec as _};

use crate::cpu::{Buffer, elementwise};
use crate::device::{Device, device};
use crate::error::Result;

/// A tensor of dfdx that nothing records, row-major.
pub type Flat = dfdx::tensor::Tensor<(usize,), f32, Device>;

/// The gradient of a tensor in dfdx's collection of them.
pub type Gradient = <Device as Storage<f32>>::Vec;

/// The values of a tensor whose values lie one behind the other. Costs one copy.
#[allow(clippy::needless_pass_by_value)] // Cards take a tensor that no one else holds apart.
pub fn from_tensor(tensor: Flat) -> Result<Buffer> {
    let mut values = Buffer::unspecified(tensor.shape().0);
    tensor.copy_into(&mut values);
    Ok(values)
}

/// A tensor of these values.
pub fn into_tensor(values: Buffer) -> Result<Flat> {
    let shape = (values.len(),);
    Ok(device()?.try_tensor_from_vec(values.into_vec(), shape)?)
}

/// The values of a gradient that nobody reads any more.
pub fn take_grad(grad: &mut Gradient) -> Result<Buffer> {
    Ok(std::mem::take(&mut **grad).into())
}

/// Adds to a gradient.
pub fn add_grad(grad: &mut Gradient, values: &[f32]) -> Result<()> {
    elementwise::add_assign(grad, values)
}
