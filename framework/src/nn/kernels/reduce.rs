//! Reductions on one thread, in a fixed order.

use std::ops::AddAssign;

/// Independent accumulators of a reduction, enough for one wide or four narrow vectors.
const LANES: usize = 16;

/// Adds up `map(a[i], b[i])`, lane by lane.
#[inline(always)]
#[allow(clippy::inline_always)]
fn reduce(a: &[f32], b: &[f32], map: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += map(a, b);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(rest) {
        *lane += map(a, b);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of `values`.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn sum(values: &[f32]) -> f32 {
    reduce(values, values, |a, _| a)
}

/// The sum of `(value - center)^2`.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn sum_of_squares(values: &[f32], center: f32) -> f32 {
    reduce(values, values, |a, _| (a - center) * (a - center))
}

/// The inner product of `a` and `b - center`.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn dot_centered(a: &[f32], b: &[f32], center: f32) -> f32 {
    reduce(a, b, |a, b| a * (b - center))
}

/// `sums += values`, element by element.
#[inline(always)]
#[allow(clippy::inline_always)]
pub fn add<T: Copy + AddAssign>(sums: &mut [T], values: &[T]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn reductions_take_every_value() {
        for len in [0, 1, 7, 16, 33, 100] {
            let values: Vec<f32> = (1..=len).map(|i| i as f32).collect();
            let exact: f32 = (len * (len + 1) / 2) as f32;
            assert_eq!(sum(&values), exact);
            assert_eq!(sum_of_squares(&values, 0.0), dot_centered(&values, &values, 0.0));
        }
    }
}
