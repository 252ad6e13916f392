//! Rows moved by an index, and back.

use rayon::prelude::*;

use super::chunks::sum_chunks;
use super::reduce::add;
use super::simd::vectorized;
use super::{Buffer, Output};
use crate::Result;

/// Rows by index: `output[i] = rows[index[i]]`, where an index one past the last row means `extra`.
///
/// `rows` is `[N, width]`, the output `[index.len(), width]`.
pub fn gather_rows(rows: &[f32], extra: Option<&[f32]>, width: usize, index: &[u32]) -> Result<Buffer> {
    let extra = extra.unwrap_or_default();
    let mut output = Buffer::unspecified(index.len() * width);
    output.par_chunks_mut(width).zip(index).for_each(|(output, &row)| {
        let start = row as usize * width;
        output.copy_from_slice(if start < rows.len() { &rows[start..][..width] } else { extra });
    });
    Ok(output)
}

/// Adds rows of a table: `x[i] += table[index[i]]`, and nothing where the index is past the table.
pub fn add_rows(x: &mut [f32], table: &[f32], width: usize, index: &[u32]) -> Result<()> {
    x.par_chunks_mut(width).zip(index).for_each(|(x, &row)| {
        let start = row as usize * width;
        if start < table.len() {
            add(x, &table[start..][..width]);
        }
    });
    Ok(())
}

/// For every row of an indexed table the places that took it, in ascending order: the index, inverted.
pub struct InverseIndex {
    starts: Vec<usize>,
    places: Vec<u32>,
}

impl InverseIndex {
    /// Inverts an index into a table of `rows` rows; entries past the table are left out.
    pub fn new(index: &[u32], rows: usize) -> Self {
        let mut starts = vec![0; rows + 1];
        for &row in index.iter().filter(|&&row| (row as usize) < rows) {
            starts[row as usize + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut places = vec![0; starts[rows]];
        for (place, &row) in index.iter().enumerate().filter(|&(_, &row)| (row as usize) < rows) {
            places[next[row as usize]] = place as u32;
            next[row as usize] += 1;
        }
        Self { starts, places }
    }

    /// Rows of the table.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// For every row where its places start, and then where the last ones end: `[rows + 1]`.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The places of all rows, one row's behind the other's.
    pub fn all(&self) -> &[u32] {
        &self.places
    }

    /// The places that took `row`.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.places[self.starts[row]..self.starts[row + 1]]
    }
}

/// The gradient of every row of an indexed table: the sum of the rows of `grad` at the places that took it. As many rows of `width`
/// values as `sums` holds, written or added.
pub fn scatter_rows(
    grad: &[f32],
    width: usize,
    places: &InverseIndex,
    sums: &mut [f32],
    mode: Output,
) -> Result<()> {
    if mode == Output::Replace {
        sums.fill(0.0);
    }
    sums.par_chunks_mut(width).enumerate().for_each(|(row, sum)| {
        for &place in places.of(row) {
            add(sum, &grad[place as usize * width..][..width]);
        }
    });
    Ok(())
}

/// The gradient of one row, which many places took: a sum like those of [`scatter_rows`], in parallel.
pub fn scatter_row(grad: &[f32], width: usize, places: &InverseIndex, row: usize) -> Result<Buffer> {
    let places = places.of(row);
    let sum = sum_chunks(places.len(), width, |range, sum| {
        vectorized(|| {
            for &place in &places[range] {
                add(sum, &grad[place as usize * width..][..width]);
            }
        });
    });
    Ok(sum.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_past_the_last_row_takes_the_extra_row() {
        let rows = gather_rows(&[1.0, 2.0, 3.0, 4.0], Some(&[9.0, 8.0]), 2, &[1, 2, 0, 1]).unwrap();
        assert_eq!(rows[..], [3.0, 4.0, 9.0, 8.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn an_inverse_index_inverts_an_index_with_repetitions_and_gaps() {
        let places = InverseIndex::new(&[2, 0, 2, 7], 3);
        assert_eq!([places.of(0), places.of(1), places.of(2)], [&[1][..], &[], &[0, 2]]);
    }
}
