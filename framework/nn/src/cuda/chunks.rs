//! Sums over many items, in an order that depends on their number alone.

use std::cell::Ref;
use std::rc::Rc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DeviceRepr};

use super::buffer::{download_plain, scratch, unspecified, upload_plain};
use super::card::{Card, card};
use super::module::{CHUNK, Grid, Source, arguments, source};
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

/// `Tensor` in `kernels/chunks.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tensor {
    values: CUdeviceptr,
    count: u32,
    first_block: u32,
}

// SAFETY: plain numbers in the order of the kernel's structure, without gaps.
unsafe impl DeviceRepr for Tensor {}

/// The sum of the squares of all values of all tensors, in double precision. Waits for it.
pub fn norm_squared(tensors: &[&Values]) -> Result<f64> {
    let mut blocks = 0;
    let mut table = Vec::with_capacity(tensors.len());
    for values in tensors.iter().filter(|values| !values.is_empty()) {
        assert_eq!(values.storage(), Storage::F32);
        let (count, first_block) = (values.len() as u32, blocks as u32);
        table.push(Tensor { values: values.address(), count, first_block });
        blocks += values.len().div_ceil(CHUNK);
    }
    let on_card = upload_plain(&table)?;
    let (partial, sum): (CudaSlice<f64>, CudaSlice<f64>) = (scratch(blocks)?, scratch(1)?);
    KERNELS.launch("sum_squares", Grid::items(blocks), arguments![partial, on_card, table.len()])?;
    KERNELS.launch("finish_sum", Grid::one(), arguments![sum, partial, blocks])?;
    let mut host = [0.0];
    download_plain(&mut host, &sum)?;
    Ok(host[0])
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
        for lens in [&[][..], &[0], &[1], &[700, 0, 4096, 4097], &[600_001]] {
            let tensors: Vec<_> = lens.iter().zip(3..).map(|(&len, seed)| noise(seed, len)).collect();
            let on_card: Vec<_> = tensors.iter().map(|values| on_card(values)).collect();
            let expected = cpu::norm_squared(&tensors.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            let actual = norm_squared(&on_card.iter().map(|values| &**values).collect::<Vec<_>>()).unwrap();
            assert!((actual - expected).abs() <= 1e-12 * expected, "{lens:?}: {actual} {expected}");
        }
    }
}
