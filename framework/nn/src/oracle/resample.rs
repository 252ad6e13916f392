//! Pooling and interpolation, composed of dfdx's operations.

use dfdx::shapes::Axes4;
use dfdx::tensor_ops::{PermuteTo as _, ReshapeTo as _, TryMatMul as _};

use super::rows::{T3, T4, constant, dense};
use crate::backend::resample::{Resample, Side};
use crate::error::Result;
use crate::tensor::Tensor;

/// Two matrix products for each image. Rows and columns change places for the second one: one matrix for every row
/// would be large.
pub fn resample(x: Tensor, resample: &Resample) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (rows, cols) = (resample.rows.outputs(), resample.cols.outputs());
    let x = x.typed((batch, height, width * channels))?;
    let x: T3 = side(batch, &resample.rows)?.try_matmul(x)?;
    let x: T4 = x.try_reshape_like(&(batch, rows, width, channels))?;
    let x = dense(x.try_permute::<_, Axes4<0, 2, 1, 3>>()?)?;
    let x: T3 = x.try_reshape_like(&(batch, width, rows * channels))?;
    let x: T3 = side(batch, &resample.cols)?.try_matmul(x)?;
    let x: T4 = x.try_reshape_like(&(batch, cols, rows, channels))?;
    Tensor::from_typed(dense(x.try_permute::<_, Axes4<0, 2, 1, 3>>()?)?)
}

/// The matrix of a side for every image, `[B, outputs, inputs]`.
fn side(batch: usize, side: &Side) -> Result<T3> {
    let matrix = side.dense();
    let shape = (batch, side.outputs(), matrix.len() / side.outputs());
    constant(matrix.repeat(batch), shape)
}
