//! Sums over many items, in an order that depends on their number alone.

use std::cell::Ref;
use std::rc::Rc;

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified};
use super::card::{Card, card};
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored};
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

/// What a kernel of `sum_columns_whole` needs to sum `rows` rows of `columns` values.
pub(super) struct ColumnSums {
    /// The sums of its chunks.
    pub partial: Buffer,
    pub grid: Grid,
    card: Rc<Card>,
    counters: usize,
}

impl ColumnSums {
    pub fn new(rows: usize, columns: usize) -> Result<Self> {
        let chunks = chunks(rows, columns);
        let grid = Grid::columns(columns, chunks, 1);
        let counters = Grid::columns(columns, 1, 1).blocks();
        Ok(Self { partial: unspecified(chunks * columns)?, grid, card: card()?, counters })
    }

    /// A zero for each block of columns.
    pub fn counters(&self) -> Result<Ref<'_, CudaSlice<u32>>> {
        self.card.counters(self.counters)
    }
}

/// Writes or adds the sum of the rows of `[rows, sums.len()]` to `sums`.
pub fn sum_rows(values: &Values, sums: &mut Values, mode: Output) -> Result<()> {
    let columns = sums.len();
    assert!(columns > 0 && values.len().is_multiple_of(columns) && sums.storage() == Storage::F32);
    let rows = values.len() / columns;
    let of = ColumnSums::new(rows, columns)?;
    let add = usize::from(mode == Output::Add);
    let arguments = arguments![*sums, of.partial, *of.counters()?, *values, rows, columns, add];
    KERNELS.launch_stored(values.storage().of(stored!("sum_rows")), of.grid, arguments)
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
}
