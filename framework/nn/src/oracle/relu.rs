//! ReLU, composed of dfdx's operations.

use crate::tensor::{Result, Tensor};

pub fn relu(x: Tensor) -> Result<Tensor> {
    let shape = x.shape();
    Tensor::from_typed(x.typed((shape.numel(),))?.try_relu()?)?.reshape(shape)
}
