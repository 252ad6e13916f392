//! Images to rows of pixels, and the joining of neighbouring positions.

use crate::PatchLayout;
use crate::kernels::patches::windows;
use crate::tensor::{Error, Result, Tensor};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the kept patches only.
///
/// From images `[B, C, rows * cell * k, cols * cell * k]` to rows `[B, P * cell * cell, C * k * k]`, with columns (channel, row,
/// column) as in a flattened weight `[O, C, k, k]`. Images get no gradient.
///
/// # Errors
/// If the images do not have the size of the layout.
pub fn patches(images: &Tensor, k: usize, layout: &PatchLayout) -> Result<Vec<f32>> {
    let (batch, channels, height, width) = images.dims4()?;
    let expected = (layout.batch(), layout.rows * layout.cell * k, layout.cols * layout.cell * k);
    if (batch, height, width) != expected {
        return Err(Error::Shape(format!(
            "{batch} images of {height} x {width} pixels do not fit the patches of {} images of {} x {}",
            expected.0, expected.1, expected.2
        )));
    }
    Ok(windows(&images.to_vec()?, channels, k, layout))
}

/// Joins `k x k` neighbouring positions: `[B, P * cell * cell, C]` to `[B, P * (cell / k)^2, C * k * k]`, with columns
/// (channel, row, column). A convolution with kernel = stride = `k` is then a linear layer with its flattened weight.
///
/// # Errors
/// If the positions do not make patches of `cell x cell`, or `k` does not divide `cell`.
pub fn merge_cells(x: Tensor, cell: usize, k: usize) -> Result<Tensor> {
    let (_, positions, _) = x.dims3()?;
    if k == 0 || cell == 0 || !cell.is_multiple_of(k) || !positions.is_multiple_of(cell * cell) {
        return Err(Error::Shape(format!(
            "{positions} positions in patches of {cell} x {cell} cannot be joined {k} x {k}"
        )));
    }
    implementation::merge_cells(x, cell, k)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use crate::kernels::{Buffer, patches};
    use crate::ops::operation;
    use crate::tensor::{Result, Tensor};

    pub fn merge_cells(x: Tensor, cell: usize, k: usize) -> Result<Tensor> {
        let (batch, positions, channels) = x.dims3()?;
        let shape = (batch, positions / (k * k), channels * k * k);
        operation(vec![x], shape, |inputs, record| {
            let merged = patches::merge_cells(&inputs[0], channels, cell, k);
            let backward = move |grad: Buffer| vec![patches::split_cells(&grad, channels, cell, k)];
            Ok((merged, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Axes5;
    use dfdx::tensor_ops::PermuteTo as _;

    use crate::ops::rows::dense;
    use crate::tensor::{Result, Tensor};

    pub fn merge_cells(x: Tensor, cell: usize, k: usize) -> Result<Tensor> {
        let (batch, positions, channels) = x.dims3()?;
        let groups = cell / k;
        let x = x.typed((batch * positions / (cell * k), k, groups, k, channels))?;
        // (row of groups, row, column of groups, column, channel): the channel comes before row and column.
        let x = dense(x.try_permute::<_, Axes5<0, 2, 4, 1, 3>>()?)?;
        Tensor::from_typed(x)?.reshape((batch, positions / (k * k), channels * k * k))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;
    use crate::Tape;
    use crate::tensor::Tensor;
    use crate::testing::{noise, run};

    #[test]
    fn merging_agrees_with_the_composition() {
        for (cell, k) in [(4, 4), (4, 2), (6, 3), (2, 1)] {
            let shape = (2, 3 * cell * cell, 5);
            let x = noise(1, 2 * shape.1 * 5);
            let own = run(&x, shape, &[], |x| merge_cells(x, cell, k));
            assert_eq!(own, run(&x, shape, &[], |x| composed::merge_cells(x, cell, k)), "{cell} by {k}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::from_vec(noise(1, 64), (1, 16, 4), &Tape::none()).unwrap();
        assert!(merge_cells(x.clone(), 4, 3).is_err());
        assert!(merge_cells(x.clone(), 3, 3).is_err());
        assert!(merge_cells(x, 4, 0).is_err());
        let images = Tensor::from_vec(noise(1, 3 * 64), (1, 3, 8, 8), &Tape::none()).unwrap();
        assert!(patches(&images, 4, &PatchLayout::dense(1, 2, 2, 1)).is_ok());
        assert!(patches(&images, 2, &PatchLayout::dense(1, 2, 2, 1)).is_err());
        assert!(patches(&images, 4, &PatchLayout::dense(2, 2, 2, 1)).is_err());
    }
}
