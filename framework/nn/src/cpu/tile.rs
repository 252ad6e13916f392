//! Products of matrices that fit in the cache, on one thread.
//!
//! A general product packs both factors, which for matrices this small takes longer than it saves. Here the right factor and the
//! output are rows of whole vectors, and the left factor is read value by value, in any order.

use pulp::{Simd, WithSimd, bytemuck};

use super::Output;

/// Rows of the output that are computed together.
pub const ROWS: usize = 6;

/// A left factor: the value in row `i` and column `k` is `values[i * row_stride + k * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// From the first value on.
    pub values: &'a [f32],
    /// From one row to the next.
    pub row_stride: usize,
    /// From one column to the next.
    pub column_stride: usize,
}

impl<'a> Left<'a> {
    /// A matrix in rows of `width` vectors.
    #[inline(always)]
    pub fn rows<S: Simd>(vectors: &'a [S::f32s], width: usize) -> Self {
        Self { values: bytemuck::cast_slice(vectors), row_stride: width * S::F32_LANES, column_stride: 1 }
    }

    /// The transposed of a matrix in rows of `width` vectors.
    #[inline(always)]
    pub fn columns<S: Simd>(vectors: &'a [S::f32s], width: usize) -> Self {
        Self { values: bytemuck::cast_slice(vectors), row_stride: 1, column_stride: width * S::F32_LANES }
    }
}

/// `out = a b` or `out += a b`. `out` and `b` are row-major, `width` vectors a row.
///
/// # Panics
/// If the left factor is too short.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    out: &mut [S::f32s],
    mode: Output,
    a: Left<'_>,
    b: &[S::f32s],
    width: usize,
) {
    // A function of its own: compiled once for each instruction set, not wherever it is called.
    Simd::vectorize(simd, Product { simd, out, mode, a, b, width });
}

struct Product<'a, S: Simd> {
    simd: S,
    out: &'a mut [S::f32s],
    mode: Output,
    a: Left<'a>,
    b: &'a [S::f32s],
    width: usize,
}

impl<S: Simd> WithSimd for Product<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(mut self, _: T) {
        // The sums have to fit in the registers, besides a row of `b` and a value of `a`.
        let columns = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        for first in (0..self.width).step_by(columns) {
            match columns.min(self.width - first) {
                4 => self.panel::<4>(first),
                3 => self.panel::<3>(first),
                2 => self.panel::<2>(first),
                _ => self.panel::<1>(first),
            }
        }
    }
}

impl<S: Simd> Product<'_, S> {
    /// `C` vectors of all rows, from vector `first` on.
    #[inline(always)]
    fn panel<const C: usize>(&mut self, first: usize) {
        for top in (0..self.out.len() / self.width).step_by(ROWS) {
            match ROWS.min(self.out.len() / self.width - top) {
                6 => self.tile::<6, C>(top, first),
                5 => self.tile::<5, C>(top, first),
                4 => self.tile::<4, C>(top, first),
                3 => self.tile::<3, C>(top, first),
                2 => self.tile::<2, C>(top, first),
                _ => self.tile::<1, C>(top, first),
            }
        }
    }

    /// `C` vectors of `R` rows.
    #[inline(always)]
    fn tile<const R: usize, const C: usize>(&mut self, top: usize, first: usize) {
        let Self { simd, mode, a: Left { values, row_stride, column_stride }, b, width, .. } = *self;
        let values = &values[top * row_stride..];
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        for (k, b) in b.chunks_exact(width).enumerate() {
            let (b, values) = (&b[first..][..C], &values[k * column_stride..]);
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = simd.splat_f32s(values[r * row_stride]);
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = simd.mul_add_e_f32s(value, b, *sum);
                }
            }
        }
        // All lengths are constants here, too, or the sums would not stay in registers.
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(top + r) * width + first..][..C];
            for (out, &sum) in out.iter_mut().zip(sums) {
                *out = match mode {
                    Output::Replace => sum,
                    Output::Add => simd.add_f32s(*out, sum),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::*;
    use crate::testing::{assert_close, noise};

    /// The product of `[rows, k]` with `[k, width vectors]`, with the left factor in rows and in columns.
    struct Check {
        rows: usize,
        k: usize,
        width: usize,
    }

    impl WithSimd for Check {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let Self { rows, k, width } = self;
            let columns = width * S::F32_LANES;
            let (a, b) = (noise(1, rows * k), noise(2, k * columns));
            let at: Vec<f32> = (0..rows * k).map(|i| a[i % rows * k + i / rows]).collect();
            let expected: Vec<f64> = (0..rows * columns)
                .map(|i| {
                    let terms = (0..k)
                        .map(|l| f64::from(a[i / columns * k + l]) * f64::from(b[l * columns + i % columns]));
                    terms.sum()
                })
                .collect();
            let twice: Vec<f64> = expected.iter().map(|x| 2.0 * x).collect();
            for a in [
                Left { values: &a, row_stride: k, column_stride: 1 },
                Left { values: &at, row_stride: 1, column_stride: rows },
            ] {
                let mut out = vec![f32::NAN; rows * columns];
                let b = S::as_simd_f32s(&b).0;
                product(simd, S::as_mut_simd_f32s(&mut out).0, Output::Replace, a, b, width);
                assert_close(&out, &expected, 1e-6);
                product(simd, S::as_mut_simd_f32s(&mut out).0, Output::Add, a, b, width);
                assert_close(&out, &twice, 1e-6);
            }
        }
    }

    #[test]
    fn every_size_of_tile_gives_the_product() {
        for rows in 1..=2 * ROWS {
            for width in 1..=6 {
                Arch::new().dispatch(Check { rows, k: 9, width });
            }
        }
        // Those of machines without wide vectors.
        Check { rows: 7, k: 9, width: 3 }.with_simd(pulp::Scalar::new());
    }
}
