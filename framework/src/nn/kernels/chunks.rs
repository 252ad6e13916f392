//! Sums over many items, in parallel but in an order that the number of threads does not change.

use std::ops::{AddAssign, Range};

use rayon::prelude::*;

/// Chunks of a sum: enough for the cores of a large machine, few enough for their partial sums to stay small.
const CHUNKS: usize = 64;

/// Sums `width` values over `0..items`: `add` adds the items of a range to a partial sum (zeros at first), the partial sums
/// are added in order.
pub fn sum_chunks<T>(items: usize, width: usize, add: impl Fn(Range<usize>, &mut [T]) + Sync) -> Vec<T>
where
    T: Copy + Default + AddAssign + Send + Sync,
{
    let length = items.div_ceil(CHUNKS).max(1);
    let partial_sums: Vec<Vec<T>> = (0..items.div_ceil(length))
        .into_par_iter()
        .map(|chunk| {
            let mut sum = vec![T::default(); width];
            add(chunk * length..((chunk + 1) * length).min(items), &mut sum);
            sum
        })
        .collect();
    let mut partial_sums = partial_sums.into_iter();
    let mut total = partial_sums.next().unwrap_or_else(|| vec![T::default(); width]);
    for partial in partial_sums {
        add_to(&mut total, &partial);
    }
    total
}

/// `sum += values`, element by element.
#[inline]
pub fn add_to<T: Copy + AddAssign>(sum: &mut [T], values: &[T]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
