//! Rows moved by an index, and back.

use super::buffer::{unspecified, unspecified_in, upload_plain};
use super::chunks::ColumnSums;
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored};
use super::{Buffer, Output, Values};
use crate::Result;

pub use crate::cpu::tokens::InverseIndex;

static KERNELS: Source = source!("tokens");

/// Rows by index: `output[i] = rows[index[i]]`, where an index one past the last row means `extra`.
///
/// `rows` is `[N, width]`, the output `[index.len(), width]`.
pub fn gather_rows(rows: &Values, extra: Option<&Values>, width: usize, index: &[u32]) -> Result<Buffer> {
    let count = rows.len() / width;
    assert!(
        extra.is_some_and(|extra| extra.len() == width) || index.iter().all(|&row| (row as usize) < count)
    );
    assert!(extra.is_none_or(|extra| extra.storage() == Storage::F32));
    let storage = rows.storage();
    let output = unspecified_in(storage, index.len() * width)?;
    let index = upload_plain(index)?;
    let arguments = arguments![output, *rows, extra, index, count, width, output.len()];
    KERNELS.launch_stored(storage.of(stored!("gather_rows")), Grid::elements(output.len()), arguments)?;
    Ok(output)
}

/// Adds rows of a table: `x[i] += table[index[i]]`, and nothing where the index is past the table.
pub fn add_rows(x: &mut Values, table: &Values, width: usize, index: &[u32]) -> Result<()> {
    assert_eq!(x.len(), index.len() * width);
    let index = upload_plain(index)?;
    let arguments = arguments![*x, *table, index, table.len() / width, width, x.len()];
    KERNELS.launch("add_rows", Grid::elements(x.len()), arguments)
}

/// The gradient of every row of an indexed table: the sum of the rows of `grad` at the places that took it. As many rows of `width`
/// values as `sums` holds, written or added.
pub fn scatter_rows(
    grad: &Values,
    width: usize,
    places: &InverseIndex,
    sums: &mut Values,
    mode: Output,
) -> Result<()> {
    assert!(sums.len().is_multiple_of(width) && sums.len() <= places.rows() * width);
    assert!(places.all().iter().all(|&place| (place as usize + 1) * width <= grad.len()));
    // One upload: where the places of each row start in it, and behind that the places.
    let starts = places.starts().iter().map(|&start| (places.starts().len() + start) as u32);
    let index: Vec<u32> = starts.chain(places.all().iter().copied()).collect();
    let (index, add) = (upload_plain(&index)?, usize::from(mode == Output::Add));
    let arguments = arguments![*sums, *grad, index, width, add, sums.len()];
    KERNELS.launch("scatter_rows", Grid::elements(sums.len()), arguments)
}

/// The gradient of one row, which many places took: a sum like those of [`scatter_rows`], in parallel.
pub fn scatter_row(grad: &Values, width: usize, places: &InverseIndex, row: usize) -> Result<Buffer> {
    let places = places.of(row);
    assert!(places.iter().all(|&place| (place as usize + 1) * width <= grad.len()));
    let (of, sums) = (ColumnSums::new(places.len(), width)?, unspecified(width)?);
    let (count, places) = (places.len(), upload_plain(places)?);
    let arguments = arguments![sums, of.partial, *of.counters()?, *grad, places, count, width];
    KERNELS.launch_stored(grad.storage().of(stored!("scatter_row")), of.grid, arguments)?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::tokens as cpu;
    use crate::testing::noise;

    /// Every third entry past the table.
    fn index(len: usize, rows: usize) -> Vec<u32> {
        (0..len).map(|i| if i % 3 == 2 { rows } else { i * 7 % rows }).map(|row| row as u32).collect()
    }

    const SIZES: [(usize, usize, usize); 4] = [(0, 2, 3), (1, 1, 1), (60, 49, 24), (3000, 7, 100)];

    #[test]
    fn rows_are_gathered_and_added_as_on_the_cpu() {
        let case = Case::exact("copies, and sums of two");
        for (len, count, width) in SIZES {
            let (rows, extra, x) = (noise(1, count * width), noise(2, width), noise(3, len * width));
            let index = index(len, count);
            let gathered = gather_rows(&on_card(&rows), Some(&*on_card(&extra)), width, &index).unwrap();
            case.same(&gathered, &cpu::gather_rows(&rows, Some(&extra), width, &index).unwrap());
            case.in_place(
                &x,
                |x| cpu::add_rows(x, &rows, width, &index),
                |x| add_rows(x, &on_card(&rows), width, &index),
            );
        }
        let (rows, index) = (noise(1, 6), [1, 0, 1]);
        let gathered = gather_rows(&on_card(&rows), None, 3, &index).unwrap();
        case.same(&gathered, &cpu::gather_rows(&rows, None, 3, &index).unwrap());
    }

    #[test]
    fn rows_are_scattered_as_on_the_cpu() {
        for (len, count, width) in SIZES {
            let (grad, sums) = (noise(1, len * width), noise(2, count * width));
            // One row more than the sums: that of what is past the table.
            let places = InverseIndex::new(&index(len, count), count + 1);
            let card = on_card(&grad);
            for mode in [Output::Replace, Output::Add] {
                Case::relative(1e-6, "what is there comes first").in_place(
                    &sums,
                    |sums| cpu::scatter_rows(&grad, width, &places, sums, mode),
                    |sums| scatter_rows(&card, width, &places, sums, mode),
                );
            }
            let (expected, actual) =
                (cpu::scatter_row(&grad, width, &places, 0), scatter_row(&card, width, &places, 0));
            Case::relative(1e-6, "added up in another order").same(&actual.unwrap(), &expected.unwrap());
        }
    }
}
