//! Positions of patches as rows.

use super::buffer::unspecified;
use super::card::card;
use super::images::{Uploaded, pixels};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::{PatchLayout, Result};

static KERNELS: Source = source!("patches");

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the kept patches only.
///
/// From images `[B, channels, rows * cell * k, cols * cell * k]` to `[B, P * cell * cell, channels * k * k]`, with columns (channel, row,
/// column) as in a flattened weight `[O, channels, k, k]`. A layout of `B * M` takes patches of every image `M` times.
pub fn windows(images: &Uploaded, k: usize, layout: &PatchLayout) -> Result<Buffer> {
    let PatchLayout { rows, cols, cell, kept, .. } = *layout;
    let (batch, channels, height, width) = images.shape.dims4()?;
    assert_eq!((height, width), (rows * cell * k, cols * cell * k));
    let per_image = layout.batch() / batch * kept;
    let y = unspecified(layout.ids.len() * cell * cell * channels * k * k)?;
    let ids = card()?.lists.uploaded(&layout.ids)?;
    let [values, tables] = images.addresses()?;
    let arguments =
        arguments![y, values, tables, channels, height, width, *ids, cols, cell, per_image, k, y.len()];
    KERNELS.launch(images.kernel(pixels!("windows")), Grid::elements(y.len()), arguments)?;
    Ok(y)
}

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
    use super::super::images::tests::in_both_forms;
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::patches as cpu;
    use crate::testing::noise;

    #[test]
    fn windows_are_taken_as_on_the_cpu() {
        let case = Case::exact("copies");
        for (channels, cell, k, kept, ids) in [
            (1, 1, 1, 1, vec![0, 5]),
            (3, 2, 4, 2, vec![4, 1, 0, 3]),
            (2, 4, 1, 3, vec![5, 2, 3, 0, 1, 4]),
            // Two selections of each image.
            (3, 2, 4, 2, vec![4, 1, 0, 3, 5, 2, 1, 3]),
        ] {
            let layout = PatchLayout::new(2, 3, cell, kept, ids).unwrap();
            for (card, processor) in in_both_forms((2, channels, 2 * cell * k, 3 * cell * k)) {
                let expected = cpu::windows(&processor, k, &layout).unwrap();
                case.same(&windows(&card, k, &layout).unwrap(), &expected);
            }
        }
    }

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
