//! Images to patches of pixels, and the joining of neighbouring positions.

use super::layer::{Layer, LayerBackward, Pass};
use crate::backend::{Buffer, patches};
use crate::error::{Error, Result};
use crate::{Images, PatchLayout, Shape, Tensor};

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the kept patches of a layout only.
///
/// From images `[B, C, rows * cell * k, cols * cell * k]` to `[B, P * cell * cell, C * k * k]`, with columns (channel, row, column) as in
/// a flattened weight `[O, C, k, k]`. On no tape: images get no gradient. A layout of `B * M` is `M` selections of patches per image, which
/// follow each other.
///
/// # Errors
/// If the images do not fit the layout, or the device fails.
pub fn image_patches(images: &Images, k: usize, layout: &PatchLayout) -> Result<Tensor> {
    let (batch, channels, height, width) = images.shape().dims4()?;
    let side = layout.cell * k;
    let (selections, expected) = (layout.batch(), (layout.rows * side, layout.cols * side));
    if (height, width) != expected || !selections.is_multiple_of(batch) {
        return Err(Error::Shape(format!(
            "{batch} images of {height} x {width} pixels do not fit the patches of {selections} images of {} x {}",
            expected.0, expected.1
        )));
    }
    let rows = patches::windows(images.on_device()?, k, layout)?;
    Tensor::from_buffer(rows, Shape::from((selections, layout.positions(), channels * k * k)))
}

/// Joins `k x k` neighbouring positions: `[B, P * cell * cell, C]` to `[B, P * (cell / k)^2, C * k * k]`, with columns
/// (channel, row, column). A convolution with kernel = stride = `k` is then a linear layer with its flattened weight.
#[derive(Debug, Clone, Copy)]
pub struct MergeCells {
    /// Positions along each side of a patch.
    pub cell: usize,
    /// `k`, which divides `cell`.
    pub kernel: usize,
}

impl Layer for MergeCells {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let Self { cell, kernel } = *self;
        let (batch, positions, channels) = input.dims3()?;
        if kernel == 0
            || cell == 0
            || !cell.is_multiple_of(kernel)
            || !positions.is_multiple_of(cell * cell)
            || channels == 0
        {
            return Err(Error::Shape(format!(
                "{positions} positions in patches of {cell} x {cell} cannot be joined {kernel} x {kernel}"
            )));
        }
        let area = kernel * kernel;
        Ok(Shape::from((batch, positions / area, channels * area)))
    }

    fn may_train(&self) -> bool {
        false
    }

    fn forward(self: Box<Self>, x: Buffer, input: Shape, _: Pass) -> Result<(Buffer, LayerBackward)> {
        let (Self { cell, kernel }, channels) = (*self, input.channels());
        let merged = patches::merge_cells(&x, channels, cell, kernel)?;
        let backward = move |grad: Buffer| patches::split_cells(&grad, channels, cell, kernel).map(Some);
        Ok((merged, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer::apply_constant;
    use super::*;
    use crate::oracle;
    use crate::testing::{noise, run};

    #[test]
    fn merging_agrees_with_the_composition() {
        for (cell, kernel) in [(4, 4), (4, 2), (6, 3), (2, 1)] {
            let shape = (2, 3 * cell * cell, 5);
            let (x, merge) = (noise(1, 2 * shape.1 * 5), MergeCells { cell, kernel });
            let own = run(&x, shape, &[], |x| apply_constant(merge, x));
            assert_eq!(own, run(&x, shape, &[], |x| oracle::merge_cells(x, cell, kernel)), "{merge:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let merges = |cell, kernel| MergeCells { cell, kernel }.output_shape(Shape::from((1, 16, 4))).is_ok();
        assert_eq!(
            [(4, 2), (4, 3), (3, 3), (4, 0)].map(|(cell, k)| merges(cell, k)),
            [true, false, false, false]
        );
        // Patches are of each image equally often.
        let images = Images::from_vec(vec![0.0; 2 * 3 * 64], (2, 3, 8, 8));
        let fits = |k, batch| image_patches(&images, k, &PatchLayout::dense(batch, 2, 2, 1)).is_ok();
        let cases = [(4, 2), (4, 4), (2, 2), (4, 3), (4, 1)];
        assert_eq!(cases.map(|(k, batch)| fits(k, batch)), [true, true, false, false, false]);
    }
}
