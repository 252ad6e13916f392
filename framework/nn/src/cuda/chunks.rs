//! Sums over many items, in an order that depends on their number alone.

use cudarc::driver::CudaSlice;

use super::buffer::{download_plain, scratch, unspecified};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Output, Values};
use crate::Result;

static KERNELS: Source = source!("chunks");

/// Rows that make a partial sum worth its own addition.
const ROWS: usize = 32;

/// Blocks that keep a large card busy.
const BLOCKS: usize = 8 * 132;

/// Partial sums of `[rows, columns]` over its rows (`sum_columns`).
pub(super) fn chunks(rows: usize, columns: usize) -> usize {
    let enough = BLOCKS.div_ceil(Grid::columns(columns, 1, 1).blocks());
    rows.div_ceil(ROWS).clamp(1, enough)
}

/// The sum of `rows` rows of `columns` values that `launch` adds up by chunks, in a kernel of `sum_columns` on the grid it is given.
pub(super) fn partial_sums(
    rows: usize,
    columns: usize,
    launch: impl FnOnce(&Buffer, Grid) -> Result<()>,
) -> Result<Buffer> {
    let mut sums = unspecified(columns)?;
    accumulate_partial(rows, &mut sums, Output::Replace, launch)?;
    Ok(sums)
}

fn accumulate_partial(
    rows: usize,
    sums: &mut Values,
    mode: Output,
    launch: impl FnOnce(&Buffer, Grid) -> Result<()>,
) -> Result<()> {
    let columns = sums.len();
    let chunks = chunks(rows, columns);
    let partial = unspecified(chunks * columns)?;
    launch(&partial, Grid::columns(columns, chunks, 1))?;
    let add = usize::from(mode == Output::Add);
    let arguments = arguments![*sums, partial, chunks, columns, add];
    KERNELS.launch("finish_rows", Grid::elements(columns), arguments)
}

/// Writes or adds the sum of the rows of `[rows, sums.len()]` to `sums`.
pub fn sum_rows(values: &Values, sums: &mut Values, mode: Output) -> Result<()> {
    let columns = sums.len();
    assert!(columns > 0 && values.len().is_multiple_of(columns));
    let rows = values.len() / columns;
    accumulate_partial(rows, sums, mode, |partial, grid| {
        KERNELS.launch("sum_rows", grid, arguments![*partial, *values, rows, columns])
    })
}

/// The sum of the squares of all values, in double precision. Waits for it.
pub fn norm_squared(values: &Values) -> Result<f64> {
    let grid = Grid::elements(values.len());
    let mut sums = vec![0.0; grid.blocks()];
    let partial: CudaSlice<f64> = scratch(sums.len())?;
    KERNELS.launch("sum_squares", grid, arguments![partial, *values, values.len()])?;
    download_plain(&mut sums, &partial)?;
    Ok(sums.iter().sum())
}

/// The sum of the first `count` values over `divisor`, `[1]`.
pub(super) fn mean(values: &CudaSlice<f64>, count: usize, divisor: f64) -> Result<Buffer> {
    let grid = Grid::elements(count);
    let partial: CudaSlice<f64> = scratch(grid.blocks())?;
    KERNELS.launch("sum_values", grid, arguments![partial, *values, count])?;
    let mean = unspecified(1)?;
    KERNELS.launch("finish_mean", Grid::one(), arguments![mean, partial, grid.blocks(), divisor])?;
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::chunks as cpu;
    use crate::testing::noise;

    #[test]
    fn sums_of_rows_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "added up in another order");
        for (rows, columns) in [(0, 3), (1, 1), (7, 33), (1000, 24), (3, 700), (20_000, 5)] {
            let (values, sums) = (noise(1, rows * columns), noise(2, columns));
            for mode in [Output::Replace, Output::Add] {
                let card = on_card(&values);
                case.in_place(
                    &sums,
                    |sums| cpu::sum_rows(&values, sums, mode),
                    |sums| sum_rows(&card, sums, mode),
                );
            }
        }
    }

    #[test]
    fn norms_are_those_of_the_cpu() {
        for len in [0, 1, 700, 600_001] {
            let values = noise(3, len);
            let (expected, actual) =
                (cpu::norm_squared(&values).unwrap(), norm_squared(&on_card(&values)).unwrap());
            assert!((actual - expected).abs() <= 1e-12 * expected, "{actual} {expected}");
        }
    }
}
