//! Sums over many items, in parallel but in an order that the number of threads does not change.

use std::ops::{AddAssign, Range};

use rayon::prelude::*;

use super::Output;
use super::elementwise::{CHUNK, accumulate};
use super::reduce::{self, add};
use super::simd::vectorized;
use crate::Result;
use crate::profile;

/// Chunks of a sum: enough for the cores of a large machine, few enough for their partial sums to stay small.
const CHUNKS: usize = 64;

/// Rows that make a partial sum worth its own addition.
const ROWS: usize = 16;

/// Sums `width` values over `0..items`: `add_items` adds the items of a range to a partial sum (zeros at first), the partial sums
/// are added in order.
pub fn sum_chunks<T>(items: usize, width: usize, add_items: impl Fn(Range<usize>, &mut [T]) + Sync) -> Vec<T>
where
    T: Copy + Default + AddAssign + Send + Sync,
{
    let length = items.div_ceil(CHUNKS).max(1);
    let partial_sums: Vec<Vec<T>> = (0..items.div_ceil(length))
        .into_par_iter()
        .map(|chunk| {
            let mut sum = vec![T::default(); width];
            add_items(chunk * length..((chunk + 1) * length).min(items), &mut sum);
            sum
        })
        .collect();
    let mut partial_sums = partial_sums.into_iter();
    let mut total = partial_sums.next().unwrap_or_else(|| vec![T::default(); width]);
    for partial in partial_sums {
        add(&mut total, &partial);
    }
    total
}

/// Writes or adds the sum of the rows of `[rows, sums.len()]` to `sums`.
pub fn sum_rows(values: &[f32], sums: &mut [f32], mode: Output) -> Result<()> {
    let _span = profile::kernel("sum rows");
    let columns = sums.len();
    assert!(columns > 0 && values.len().is_multiple_of(columns));
    let rows = values.len() / columns;
    let total = sum_chunks(rows.div_ceil(ROWS), columns, |groups, sum| {
        let rows = groups.start * ROWS..rows.min(groups.end * ROWS);
        vectorized(|| {
            for row in values[rows.start * columns..rows.end * columns].chunks_exact(columns) {
                add(sum, row);
            }
        });
    });
    accumulate(sums, &total, mode)
}

/// The sum of the squares of all values of all tensors, in double precision.
pub fn norm_squared(tensors: &[&[f32]]) -> Result<f64> {
    let of_tensor = |values: &&[f32]| {
        let sums: Vec<f64> =
            values.par_chunks(CHUNK).map(|chunk| reduce::sum_of_squares_f64(chunk, 0.0)).collect();
        sums.iter().sum::<f64>()
    };
    Ok(tensors.iter().map(of_tensor).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, on_threads};

    #[test]
    fn every_item_is_added_once() {
        for items in [0, 1, 63, 64, 65, 1000] {
            let sum = sum_chunks(items, 2, |range, sum: &mut [u64]| {
                sum[0] += range.len() as u64;
                sum[1] += range.sum::<usize>() as u64;
            });
            assert_eq!(sum, [items as u64, (items * items.saturating_sub(1) / 2) as u64]);
        }
    }

    #[test]
    fn the_sum_of_rows_does_not_depend_on_the_number_of_threads() {
        let values = noise(1, 1000 * 37);
        let sums = |threads| {
            on_threads(threads, || {
                let mut sums = vec![1.0; 37];
                sum_rows(&values, &mut sums, Output::Add).unwrap();
                sums
            })
        };
        assert_eq!(sums(1), sums(3));
        let exact: f64 = 1.0 + values.iter().step_by(37).map(|&value| f64::from(value)).sum::<f64>();
        assert!((f64::from(sums(1)[0]) - exact).abs() < 1e-4);
    }
}
