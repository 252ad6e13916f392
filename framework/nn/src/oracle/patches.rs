//! The joining of positions, composed of dfdx's operations.

use dfdx::shapes::Axes5;
use dfdx::tensor_ops::PermuteTo as _;

use super::rows::dense;
use crate::error::Result;
use crate::tensor::Tensor;

pub fn merge_cells(x: Tensor, cell: usize, k: usize) -> Result<Tensor> {
    let (batch, positions, channels) = x.dims3()?;
    let groups = cell / k;
    let x = x.typed((batch * positions / (cell * k), k, groups, k, channels))?;
    // (row of groups, row, column of groups, column, channel): the channel comes before row and column.
    let x = dense(x.try_permute::<_, Axes5<0, 2, 4, 1, 3>>()?)?;
    Tensor::from_typed(x)?.reshape((batch, positions / (k * k), channels * k * k))
}
