//! Products of matrices, by cuBLAS.

use std::ffi::c_int;

use cudarc::cublas::result::sgemm;
use cudarc::cublas::sys::cublasOperation_t;

use super::card::{card, checked};
use super::{Output, Values};
use crate::{Result, profile};

/// A matrix in row-major order, or the transpose of one.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a Values,
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `[rows, cols]`.
    pub fn new(values: &'a Values, rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols);
        Self { values, rows, cols, transposed: false }
    }

    /// The transpose: nothing is copied.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn shape(&self) -> [usize; 2] {
        if self.transposed { [self.cols, self.rows] } else { [self.rows, self.cols] }
    }

    /// How cuBLAS, which takes matrices by columns, gets the transpose: what is to be done with the columns, and how far apart they are.
    fn by_columns(&self) -> (cublasOperation_t, c_int) {
        let operation =
            if self.transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N };
        (operation, self.cols as c_int)
    }
}

/// Writes or adds the product of `[m, k]` and `[k, n]` to `output`, `[m, n]`.
pub fn gemm(output: &mut Values, mode: Output, a: Matrix<'_>, b: Matrix<'_>) -> Result<()> {
    let ([m, k], [depth, n]) = (a.shape(), b.shape());
    assert_eq!((k, output.len()), (depth, m * n));
    if m * n * k == 0 {
        return if mode == Output::Replace { output.fill_with_zeros() } else { Ok(()) };
    }
    let _span = profile::matmul(m, n, k);
    let card = card()?;
    let (alpha, beta) = (1.0, if mode == Output::Replace { 0.0 } else { 1.0 });
    // By columns, the product is that of the transposes, in the other order.
    let ((left, left_stride), (right, right_stride)) = (b.by_columns(), a.by_columns());
    // SAFETY: the handle is the card's, on the null stream; the matrices lie within their memory, as their lengths were checked against
    // their shapes, and it lives until all that was given to the stream before its release is done; what is written is borrowed
    // mutably; no buffer is longer than a `c_int` counts.
    checked(unsafe {
        sgemm(
            *card.blas.handle(),
            left,
            right,
            n as c_int,
            m as c_int,
            k as c_int,
            &raw const alpha,
            b.values.address() as *const f32,
            left_stride,
            a.values.address() as *const f32,
            right_stride,
            &raw const beta,
            output.address() as *mut f32,
            n as c_int,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::gemm as cpu;
    use crate::testing::noise;

    #[test]
    fn products_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for [m, n, k] in [[1, 1, 1], [3, 0, 2], [2, 3, 0], [7, 33, 65], [130, 24, 96]] {
            let (a, b, c) = (noise(1, m * k), noise(2, k * n), noise(3, m * n));
            let (card_a, card_b) = (on_card(&a), on_card(&b));
            for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
                for mode in [Output::Replace, Output::Add] {
                    let on_cpu = |c: &mut [f32]| {
                        let a = if transpose_a {
                            cpu::Matrix::new(&a, k, m).t()
                        } else {
                            cpu::Matrix::new(&a, m, k)
                        };
                        let b = if transpose_b {
                            cpu::Matrix::new(&b, n, k).t()
                        } else {
                            cpu::Matrix::new(&b, k, n)
                        };
                        cpu::gemm(c, mode, 1.0, a, b, cpu::Threads::All);
                        Ok(())
                    };
                    let on_card = |c: &mut Values| {
                        let a = if transpose_a {
                            Matrix::new(&card_a, k, m).t()
                        } else {
                            Matrix::new(&card_a, m, k)
                        };
                        let b = if transpose_b {
                            Matrix::new(&card_b, n, k).t()
                        } else {
                            Matrix::new(&card_b, k, n)
                        };
                        gemm(c, mode, a, b)
                    };
                    case.in_place(&c, on_cpu, on_card);
                }
            }
        }
    }
}
