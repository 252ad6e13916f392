//! Positions of patches as rows.

use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("patches");

/// Joins `k x k` positions of each patch into one row.
///
/// From `[B * P, cell * cell, channels]` to `[B * P, (cell / k)^2, channels * k * k]`, with columns (channel, row, column): a
/// convolution with kernel = stride = `k` is then a product with its flattened weight.
pub fn merge_cells(x: &Values, channels: usize, cell: usize, k: usize) -> Result<Buffer> {
    permute("merge_cells", x, channels, cell, k)
}

/// The inverse of [`merge_cells`], which is also its backward.
pub fn split_cells(merged: &Values, channels: usize, cell: usize, k: usize) -> Result<Buffer> {
    permute("split_cells", merged, channels, cell, k)
}

fn permute(kernel: &'static str, x: &Values, channels: usize, cell: usize, k: usize) -> Result<Buffer> {
    assert!(cell.is_multiple_of(k) && x.len().is_multiple_of(cell * cell * channels));
    let y = unspecified(x.len())?;
    KERNELS.launch(kernel, Grid::elements(x.len()), arguments![y, *x, channels, cell, k, x.len()])?;
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::patches as cpu;
    use crate::testing::noise;

    #[test]
    fn cells_are_merged_and_split_as_on_the_cpu() {
        let case = Case::exact("copies");
        for (patches, channels, cell, k) in
            [(0, 3, 2, 2), (1, 1, 1, 1), (3, 5, 6, 3), (2, 24, 4, 2), (9, 40, 8, 4)]
        {
            let x = noise(1, patches * cell * cell * channels);
            let merged = merge_cells(&on_card(&x), channels, cell, k).unwrap();
            case.same(&merged, &cpu::merge_cells(&x, channels, cell, k).unwrap());
            case.same(&split_cells(&merged, channels, cell, k).unwrap(), &x);
        }
    }
}
