//! Reductions on one thread, in a fixed order.

use std::ops::AddAssign;

use super::simd::multiversion;

/// Independent accumulators of a reduction, for an addition not to wait for the one before.
const LANES: usize = 16;

/// The sum of `map(a[i], b[i])` in double precision.
#[inline(always)]
fn reduce_f64(a: &[f32], b: &[f32], map: impl Fn(f32, f32) -> f64) -> f64 {
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
    lanes.iter().sum()
}

multiversion! {
    /// The sum of `values` in double precision.
    pub fn sum_f64(values: &[f32]) -> f64 {
        reduce_f64(values, values, |value, _| f64::from(value))
    }
}

multiversion! {
    /// The sum of `(value - center)^2` in double precision.
    pub fn sum_of_squares_f64(values: &[f32], center: f64) -> f64 {
        reduce_f64(values, values, |value, _| (f64::from(value) - center) * (f64::from(value) - center))
    }
}

multiversion! {
    /// The sum of `(a[i] - b[i])^2`, summed in double precision.
    pub fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
        reduce_f64(a, b, |a, b| f64::from(a - b) * f64::from(a - b))
    }
}

/// `sums += values`, element by element.
#[inline(always)]
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
            assert_eq!(sum_f64(&values), f64::from(len * (len + 1) / 2));
            assert_eq!(sum_of_squares_f64(&values, 0.0), f64::from(len * (len + 1) * (2 * len + 1) / 6));
        }
    }

    #[test]
    fn sums_in_double_precision_keep_what_a_large_mean_would_swallow() {
        let values: Vec<f32> = (0..37).map(|i| 1e6 + i as f32).collect();
        let mean = sum_f64(&values) / 37.0;
        assert_eq!(mean, 1e6 + 18.0);
        assert_eq!(sum_of_squares_f64(&values, mean), 37.0 * (37.0 * 37.0 - 1.0) / 12.0);
        assert_eq!(squared_distance(&values, &[1e6; 37]), (36 * 37 * 73 / 6) as f64);
    }
}
