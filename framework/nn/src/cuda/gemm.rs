//! Products of matrices, by cuBLAS.

use std::ffi::{c_int, c_void};

use cudarc::cublas::result::gemm_ex;
use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType};

use super::card::{card, checked};
use super::storage::{Storage, operand};
use super::{Output, Values};
use crate::device::{self, Precision};
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

/// Writes or adds the product of `[m, k]` and `[k, n]` to `output`, `[m, n]`. Factors are rounded to what products take
/// ([`device::precision`]); it is added up in `f32`.
pub fn gemm(output: &mut Values, mode: Output, a: Matrix<'_>, b: Matrix<'_>) -> Result<()> {
    let ([m, k], [depth, n]) = (a.shape(), b.shape());
    assert_eq!((k, output.len()), (depth, m * n));
    if m * n * k == 0 {
        return if mode == Output::Replace { output.fill_with_zeros() } else { Ok(()) };
    }
    let _span = profile::matmul(m, n, k);
    let card = card()?;
    let (alpha, beta): (f32, f32) = (1.0, if mode == Output::Replace { 0.0 } else { 1.0 });
    let compute = match device::precision() {
        Precision::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        Precision::F32 | Precision::Bf16 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    // By columns, the product is that of the transposes, in the other order.
    let ((left, left_stride), (right, right_stride)) = (b.by_columns(), a.by_columns());
    let (a_rounded, b_rounded) = (operand(a.values)?, operand(b.values)?);
    let a = a_rounded.as_deref().unwrap_or(a.values);
    let b = b_rounded.as_deref().unwrap_or(b.values);
    // SAFETY: the handle is the card's, on the null stream; the matrices lie within their memory, as their lengths were checked against
    // their shapes, and it lives until all that was given to the stream before its release is done; what is written is borrowed
    // mutably; no buffer is longer than a `c_int` counts.
    checked(unsafe {
        gemm_ex(
            *card.blas.handle(),
            left,
            right,
            n as c_int,
            m as c_int,
            k as c_int,
            (&raw const alpha).cast(),
            b.address() as *const c_void,
            data_type(b),
            left_stride,
            a.address() as *const c_void,
            data_type(a),
            right_stride,
            (&raw const beta).cast(),
            output.address() as *mut c_void,
            data_type(output),
            n as c_int,
            compute,
            cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    })
}

fn data_type(values: &Values) -> cudaDataType {
    match values.storage() {
        Storage::F32 => cudaDataType::CUDA_R_32F,
        Storage::Bf16 => cudaDataType::CUDA_R_16BF,
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::unspecified_in;
    use super::super::testing::{Case, in_bf16, on_card, rounded};
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

    #[test]
    fn factors_are_rounded_and_sums_are_not() {
        let (m, n, k) = (33, 17, 300);
        let ((a, host_a), (b, host_b)) = (rounded(&noise(1, m * k)), rounded(&noise(2, k * n)));
        let mut expected = vec![0.0; m * n];
        let (left, right) = (cpu::Matrix::new(&host_a, m, k), cpu::Matrix::new(&host_b, k, n));
        cpu::gemm(&mut expected, Output::Replace, 1.0, left, right, cpu::Threads::All);
        let product = |storage, a: &Values, b: &Values| {
            in_bf16(|| {
                let mut c = unspecified_in(storage, m * n).unwrap();
                gemm(&mut c, Output::Replace, Matrix::new(a, m, k), Matrix::new(b, k, n)).unwrap();
                c
            })
        };
        Case::relative(1e-5, "added up in another order").same(&product(Storage::F32, &a, &b), &expected);
        Case::bf16().same(&product(Storage::Bf16, &a, &b), &expected);
        // What is given in `f32` is rounded first.
        let (a, b) = (on_card(&noise(1, m * k)), on_card(&noise(2, k * n)));
        Case::relative(1e-5, "added up in another order").same(&product(Storage::F32, &a, &b), &expected);
    }
}
