//! Matrix products: in `f32`, or of factors rounded to bf16 where that is asked for and the processor has instructions for it.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod instructions;
mod matrix;
mod single;
mod target;

pub use instructions::Instructions;
pub use matrix::Matrix;
use target::Target;
pub use target::{AHEAD, Segment, Threads};

use super::Output;
use crate::dry_run::is_dry;
use crate::profile;

/// `out = factor * a b`, or `out += factor * a b`, with `out` row-major `[a.rows, b.cols]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm(out: &mut [f32], mode: Output, factor: f32, a: Matrix<'_>, b: Matrix<'_>, threads: Threads) {
    let target = Target::new(out, &mut [], [a.rows, b.cols], None::<fn(Segment<'_>)>);
    product(target, mode, factor, a, b, threads);
}

/// `out = a b`, then `finish` on every part of every row: while it is in the cache. `second` is another output of the same shape, or
/// empty.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm_then(
    out: &mut [f32],
    second: &mut [f32],
    a: Matrix<'_>,
    b: Matrix<'_>,
    finish: impl Fn(Segment<'_>) + Sync,
) {
    let target = Target::new(out, second, [a.rows, b.cols], Some(finish));
    product(target, Output::Replace, 1.0, a, b, Threads::All);
}

/// Multiply-accumulates that are not worth a second thread.
const SMALL: usize = 1 << 16;

fn product<F: Fn(Segment<'_>) + Sync>(
    target: Target<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "the inner dimensions of a product differ");
    if m == 0 || n == 0 {
        return;
    }
    let threads = if m * n * k > SMALL { threads } else { Threads::One };
    let _timer = (threads == Threads::All).then(|| profile::matmul(m, n, k));
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = Instructions::asked_for() {
        return bf16::product(instructions, target, mode, factor, a, b, threads);
    }
    if !is_dry() {
        single::product(target, mode, factor, a, b, threads);
    }
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;
    use crate::testing::{assert_close, noise, on_threads};

    fn reference(m: usize, n: usize, k: usize, at: impl Fn(usize, usize) -> (f32, f32)) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for (i, out) in out.iter_mut().enumerate() {
            for l in 0..k {
                let (a, b) = (at(i / n, l).0, at(l, i % n).1);
                *out += f64::from(a) * f64::from(b);
            }
        }
        out
    }

    #[test]
    fn every_transposition_gives_the_product() {
        let (m, n, k) = (5, 7, 19);
        let (a, b) = (noise(1, m * k), noise(2, k * n));
        let transpose = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| x[(i % rows) * cols + i / rows]).collect()
        };
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let expected = reference(m, n, k, |i, j| {
            (a.get(i * k + j).copied().unwrap_or(0.0), b.get(i * n + j).copied().unwrap_or(0.0))
        });
        for a in [Matrix::new(&a, m, k), Matrix::new(&at, k, m).t()] {
            for b in [Matrix::new(&b, k, n), Matrix::new(&bt, n, k).t()] {
                let mut out = vec![f32::NAN; m * n];
                gemm(&mut out, Output::Replace, 1.0, a, b, Threads::All);
                assert_close(&out, &expected, 1e-5);
                gemm(&mut out, Output::Add, -1.0, a, b, Threads::One);
                assert_close(&out, &vec![0.0; m * n], 1e-5);
            }
        }
    }

    #[test]
    fn rows_may_have_gaps() {
        let values = [1.0, 2.0, 9.0, 3.0, 4.0];
        let matrix = Matrix::with_row_stride(&values, 2, 2, 3);
        let mut out = [0.0; 4];
        gemm(&mut out, Output::Replace, 1.0, matrix, Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2), Threads::One);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut out = [1.0; 4];
        gemm(&mut out, Output::Add, 1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), Threads::One);
        assert_eq!(out, [1.0; 4]);
        gemm(&mut out, Output::Replace, 1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), Threads::One);
        assert_eq!(out, [0.0; 4]);
    }

    #[test]
    fn the_product_does_not_depend_on_the_number_of_threads() {
        let (m, n, k) = (197, 130, 1600);
        let (a, b) = (noise(3, m * k), noise(4, k * n));
        for a in [Matrix::new(&a, m, k), Matrix::new(&a, k, m).t()] {
            let product = |threads| {
                on_threads(threads, || {
                    let mut out = vec![0.0; m * n];
                    gemm(&mut out, Output::Replace, 1.0, a, Matrix::new(&b, n, k).t(), Threads::All);
                    out
                })
            };
            assert_eq!(product(1), product(3));
        }
    }

    #[test]
    fn long_sums_of_few_values_are_complete_before_they_are_finished() {
        // Eight stretches, the last of them shorter.
        let (m, n, k) = (20, 33, 5001);
        let (a, b) = (noise(5, k * m), noise(6, k * n));
        let expected = reference(m, n, k, |i, j| {
            (a.get(j * m + i).copied().unwrap_or(0.0), b.get(i * n + j).copied().unwrap_or(0.0))
        });
        let (a, b) = (Matrix::new(&a, k, m).t(), Matrix::new(&b, k, n));
        let mut out = vec![f32::NAN; m * n];
        gemm(&mut out, Output::Replace, 0.5, a, b, Threads::All);
        gemm(&mut out, Output::Add, 0.5, a, b, Threads::All);
        assert_close(&out, &expected, 1e-5);
        let mut squares = vec![f32::NAN; m * n];
        gemm_then(&mut out, &mut squares, a, b, |Segment { out, second, .. }| {
            second.iter_mut().zip(out).for_each(|(square, out)| *square = *out * *out);
        });
        let expected: Vec<f64> = expected.iter().map(|sum| sum * sum).collect();
        assert_close(&squares, &expected, 1e-5);
    }
}
