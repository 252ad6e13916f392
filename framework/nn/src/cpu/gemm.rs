//! Matrix products, by the crate `gemm`.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use super::Output;
use super::transpose::transpose;
use crate::dry_run::is_dry;
use crate::profile;

/// A matrix in a slice. Transposing it copies nothing.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, without gaps.
    pub fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(values, rows, cols, cols)
    }

    /// Row-major, with `row_stride` elements from the start of a row to that of the next.
    ///
    /// # Panics
    /// If the slice is too short.
    pub fn with_row_stride(values: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        if rows > 0 && cols > 0 {
            let len = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols));
            assert!(len.is_some_and(|len| values.len() >= len), "the slice holds no {rows} x {cols}");
        }
        Self { values, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transposed matrix.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// Who computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread: within a parallel loop.
    One,
    /// All threads of the current rayon pool.
    All,
}

/// `out = factor * a b`, or `out += factor * a b`, with `out` row-major `[a.rows, b.cols]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemm(out: &mut [f32], mode: Output, factor: f32, a: Matrix<'_>, b: Matrix<'_>, threads: Threads) {
    fused(out, &mut [], mode, factor, a, b, threads, None::<fn(Segment<'_>)>);
}

/// A part of a row of a product.
pub struct Segment<'a> {
    /// The row.
    pub row: usize,
    /// The columns.
    pub cols: Range<usize>,
    /// The product's values there.
    pub out: &'a mut [f32],
    /// The second output's values there.
    pub second: &'a mut [f32],
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
    fused(out, second, Output::Replace, 1.0, a, b, Threads::All, Some(finish));
}

#[allow(clippy::too_many_arguments)] // Those of a product, twice.
fn fused<F: Fn(Segment<'_>) + Sync>(
    out: &mut [f32],
    second: &mut [f32],
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
    finish: Option<F>,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "the inner dimensions of a product differ");
    assert_eq!(Some(out.len()), m.checked_mul(n), "the output of a product is not {m} x {n}");
    assert!(second.is_empty() || second.len() == out.len(), "the second output is not {m} x {n}");
    if m == 0 || n == 0 || is_dry() {
        return;
    }
    let second = (!second.is_empty()).then_some(second.as_mut_ptr());
    let product = Product { out: out.as_mut_ptr(), second, m, n, mode, factor, a, b, finish };
    match threads {
        Threads::All if m * n * k > SMALL => {
            let _timer = profile::matmul(m, n, k);
            let (height, width) = tile_shape(m, n);
            let across = n.div_ceil(width);
            (0..m.div_ceil(height) * across).into_par_iter().for_each(|tile| {
                let (top, left) = (tile / across * height, tile % across * width);
                product.tile(top..(top + height).min(m), left..(left + width).min(n));
            });
        }
        _ => product.tile(0..m, 0..n),
    }
}

/// Rows of the largest tiles of the output that one thread computes. Many rows and few columns keep their part of `b` in the cache.
const TILE_ROWS: usize = 1024;

/// Columns of the tiles, where there are enough of them for several threads; else half of that. Measured on the shapes of the base
/// model: wider and narrower ones are slower.
const TILE_COLS: usize = 128;

/// Tiles that keep several threads busy.
const ENOUGH: usize = 8;

/// Rows and columns of the tiles of an output: the same for any number of threads.
fn tile_shape(m: usize, n: usize) -> (usize, usize) {
    let (height, width) = (even_part(m, TILE_ROWS), even_part(n, TILE_COLS));
    match m.div_ceil(height) * n.div_ceil(width) {
        ENOUGH.. => (height, width),
        _ => (height, even_part(n, TILE_COLS / 2)),
    }
}

/// Multiply-accumulates that are not worth a second thread.
const SMALL: usize = 1 << 16;

/// The length of equal parts of `len`, a multiple of 16 and at most `limit`.
fn even_part(len: usize, limit: usize) -> usize {
    len.div_ceil(len.div_ceil(limit)).next_multiple_of(16).min(limit)
}

/// Rows of a tile from which on it pays to copy the columns of a transposed `b` to row-major order first, which the crate does slowly.
const STRAIGHTENED: usize = 128;

/// A product whose tiles several threads compute.
struct Product<'a, F> {
    /// `m * n` elements, row-major without gaps, borrowed exclusively by [`fused`].
    out: *mut f32,
    /// As many, likewise.
    second: Option<*mut f32>,
    m: usize,
    n: usize,
    mode: Output,
    factor: f32,
    a: Matrix<'a>,
    b: Matrix<'a>,
    finish: Option<F>,
}

// SAFETY: threads write through `out` and `second` to the tiles that they are given, which do not overlap.
unsafe impl<F: Sync> Sync for Product<'_, F> {}

impl<F: Fn(Segment<'_>)> Product<'_, F> {
    /// Computes the elements of `out` in these rows and columns.
    fn tile(&self, rows: Range<usize>, cols: Range<usize>) {
        let b = &self.b;
        assert!(rows.start < rows.end && rows.end <= self.m && cols.start < cols.end && cols.end <= self.n);
        if b.col_stride > 1 && b.row_stride == 1 && rows.len() >= STRAIGHTENED {
            let line = |col: usize| &b.values[col * b.col_stride..][..b.rows];
            let straight = transpose(&cols.clone().map(line).collect::<Vec<_>>());
            self.multiply(rows.clone(), cols.clone(), Matrix::new(&straight, b.rows, cols.len()));
        } else {
            let values = b.values.get(cols.start * b.col_stride..).unwrap_or_default();
            self.multiply(rows.clone(), cols.clone(), Matrix { values, cols: cols.len(), ..*b });
        }
        if let Some(finish) = &self.finish {
            for row in rows {
                let start = row * self.n + cols.start;
                let segment = |values: *mut f32| {
                    // SAFETY: the row and the columns lie within the outputs, as checked, and no other tile has them.
                    unsafe { std::slice::from_raw_parts_mut(values.add(start), cols.len()) }
                };
                let second = self.second.map(segment).unwrap_or_default();
                finish(Segment { row, cols: cols.clone(), out: segment(self.out), second });
            }
        }
    }

    /// The product alone, with the columns of `b` that it needs.
    fn multiply(&self, rows: Range<usize>, cols: Range<usize>, b: Matrix<'_>) {
        let a = &self.a;
        assert_eq!((b.rows, b.cols), (a.cols, cols.len()));
        let a_values = a.values.get(rows.start * a.row_stride..).unwrap_or_default();
        // SAFETY: the rows and columns lie within `out`, as `tile` checked; its tiles are disjoint and it is borrowed exclusively, so it
        // overlaps neither input. A `Matrix` holds, as checked when it was made, all elements up to `(rows - 1, cols - 1)`,
        // transposed or not: also those from the first row of `a` in this tile on. Of an empty sum nothing is read.
        unsafe {
            gemm::gemm(
                rows.len(),
                cols.len(),
                a.cols,
                self.out.add(rows.start * self.n + cols.start),
                1,
                self.n as isize,
                self.mode == Output::Add,
                a_values.as_ptr(),
                a.col_stride as isize,
                a.row_stride as isize,
                b.values.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0,
                self.factor,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
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
    #[should_panic(expected = "the slice holds no")]
    fn sizes_that_overflow_are_refused() {
        let rows = usize::MAX / 4 + 2;
        Matrix::with_row_stride(&[0.0; 8], rows, 4, 4);
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
        let (m, n, k) = (197, 130, 600);
        let (a, b) = (noise(3, m * k), noise(4, k * n));
        let product = |threads| {
            on_threads(threads, || {
                let mut out = vec![0.0; m * n];
                gemm(
                    &mut out,
                    Output::Replace,
                    1.0,
                    Matrix::new(&a, m, k),
                    Matrix::new(&b, n, k).t(),
                    Threads::All,
                );
                out
            })
        };
        assert_eq!(product(1), product(3));
    }
}
