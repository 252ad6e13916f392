//! Operations: kernels (on CPU) or compositions of dfdx operations (on CUDA), on the tape.
//!
//! Each has one public function. The composed version (`composed`) is the one on CUDA, and what tests compare the kernel with.

mod attention;
pub mod batch_norm;
pub mod conv2d;
pub mod depthwise;
mod dropout;
mod gelu;
mod layer_norm;
mod linear;
pub mod loss;
#[cfg(not(feature = "cuda"))]
mod operation;
pub mod patches;
mod residual;
mod rows;
pub mod tokens;

use dfdx::shapes::{HasShape as _, Shape};
use dfdx::tensor_ops::ReshapeTo as _;

pub use attention::attention;
pub use dropout::{dropout, scale_samples};
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_2d, linear_rows};
#[cfg(not(feature = "cuda"))]
pub use operation::{Backward, operation, operation_on};
pub use residual::add;

use super::Param;
use super::tensor::{Error, Result, T1, Tensor};

/// The same tensor as a flat one: input of an operation.
pub fn flat<S: Shape>(tensor: Tensor<S>) -> Result<T1> {
    let numel = tensor.shape().num_elements();
    Ok(tensor.try_reshape_like(&(numel,))?)
}

/// That a parameter has values: one of a scope that only describes has none.
fn check_allocated(param: &Param) -> Result<()> {
    if param.values().len() == param.numel() {
        return Ok(());
    }
    Err(Error::Value(format!("{} has no values: its model was only described", param.name())))
}
