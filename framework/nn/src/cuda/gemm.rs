//! Products of matrices: by cuBLASLt, and by cuBLAS where that has none.

use std::ffi::{c_int, c_void};

use cudarc::cublas::result::gemm_ex;
use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType};
use cudarc::driver::sys::CUdeviceptr;

use super::blaslt::{Addresses, Epilogue, Kind};
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

    /// The same of other values, if there are any.
    fn of<'b>(self, values: Option<&'b Values>) -> Matrix<'b>
    where
        'a: 'b,
    {
        values.map_or(self, |values| Matrix { values, ..self })
    }

    fn shape(&self) -> [usize; 2] {
        if self.transposed { [self.cols, self.rows] } else { [self.rows, self.cols] }
    }
}

/// Writes or adds the product of `[m, k]` and `[k, n]` to `output`, `[m, n]`. Factors are rounded to what products take
/// ([`device::precision`]); it is added up in `f32`.
pub fn gemm(output: &mut Values, mode: Output, a: Matrix<'_>, b: Matrix<'_>) -> Result<()> {
    if is_empty(output, a) {
        return if mode == Output::Replace { output.fill_with_zeros() } else { Ok(()) };
    }
    let addend = (mode == Output::Add).then_some(output.address());
    with_operands(a, b, |a, b| match by_cublaslt(output, addend, a, b, Epilogue::None, 0)? {
        true => Ok(()),
        false => by_cublas(output, mode, a, b),
    })
}

/// Writes the product to `output` as [`gemm`] does, plus `addend`, `[m, n]`, and plus `bias`, `[n]`, in every row. Returns whether the
/// library does this at once; otherwise nothing is done.
pub fn gemm_bias(
    output: &mut Values,
    addend: Option<&Values>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    bias: Option<&Values>,
) -> Result<bool> {
    assert!(addend.is_none_or(|addend| addend.len() == output.len()));
    assert!(bias.is_none_or(|bias| bias.len() == b.shape()[1]));
    let storage = output.storage();
    if is_empty(output, a) || addend.into_iter().chain(bias).any(|values| values.storage() != storage) {
        return Ok(false);
    }
    let (epilogue, vector) = bias.map_or((Epilogue::None, 0), |bias| (Epilogue::Bias, bias.address()));
    let addend = addend.map(Values::address);
    with_operands(a, b, |a, b| by_cublaslt(output, addend, a, b, epilogue, vector))
}

/// [`gemm`], which also writes the sums of the rows of `a` to `sums`, `[m]`. Returns whether the library does this at once; otherwise
/// nothing is done.
pub fn gemm_row_sums(
    output: &mut Values,
    mode: Output,
    a: Matrix<'_>,
    b: Matrix<'_>,
    sums: &mut Values,
) -> Result<bool> {
    assert_eq!(sums.len(), a.shape()[0]);
    if is_empty(output, a) || sums.storage() != output.storage() {
        return Ok(false);
    }
    let (addend, vector) = ((mode == Output::Add).then_some(output.address()), sums.address());
    with_operands(a, b, |a, b| by_cublaslt(output, addend, a, b, Epilogue::BiasGradient, vector))
}

/// Whether nothing is to be multiplied.
fn is_empty(output: &Values, a: Matrix<'_>) -> bool {
    output.is_empty() || a.values.is_empty()
}

/// Calls `work` with the factors rounded to what products take.
fn with_operands<R>(
    a: Matrix<'_>,
    b: Matrix<'_>,
    work: impl FnOnce(Matrix<'_>, Matrix<'_>) -> Result<R>,
) -> Result<R> {
    let (rounded_a, rounded_b) = (operand(a.values)?, operand(b.values)?);
    work(a.of(rounded_a.as_deref()), b.of(rounded_b.as_deref()))
}

/// Sizes of a product, `[m, n, k]`.
fn sizes(output: &Values, a: Matrix<'_>, b: Matrix<'_>) -> [usize; 3] {
    let ([m, k], [depth, n]) = (a.shape(), b.shape());
    assert_eq!((k, output.len()), (depth, m * n));
    [m, n, k]
}

/// `vector` is that of the epilogue, 0 without one. Both libraries take matrices by columns: these get the transposes, in the other order.
fn by_cublaslt(
    output: &mut Values,
    addend: Option<CUdeviceptr>,
    a: Matrix<'_>,
    b: Matrix<'_>,
    epilogue: Epilogue,
    vector: CUdeviceptr,
) -> Result<bool> {
    let [m, n, k] = sizes(output, a, b);
    if a.values.storage() != b.values.storage() {
        return Ok(false);
    }
    let kind = Kind {
        sizes: [n, m, k],
        transposed: [b.transposed, a.transposed],
        operands: a.values.storage(),
        output: output.storage(),
        tf32: device::precision() == Precision::Tf32,
        epilogue,
    };
    let d = output.address();
    let at = Addresses { a: b.values.address(), b: a.values.address(), c: addend.unwrap_or(d), d, vector };
    let card = card()?;
    card.products.start(&card, kind, at, addend.is_some())
}

fn by_cublas(output: &mut Values, mode: Output, a: Matrix<'_>, b: Matrix<'_>) -> Result<()> {
    let [m, n, k] = sizes(output, a, b);
    let _span = profile::matmul(m, n, k);
    let card = card()?;
    let (alpha, beta): (f32, f32) = (1.0, if mode == Output::Replace { 0.0 } else { 1.0 });
    let compute = match device::precision() {
        Precision::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        Precision::F32 | Precision::Bf16 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let operation = |matrix: Matrix<'_>| match matrix.transposed {
        true => cublasOperation_t::CUBLAS_OP_T,
        false => cublasOperation_t::CUBLAS_OP_N,
    };
    // SAFETY: the handle is the card's, on the null stream; the matrices lie within their memory, as their lengths were checked against
    // their shapes, and it lives until all that was given to the stream before its release is done; what is written is borrowed
    // mutably; no buffer is longer than a `c_int` counts.
    checked(unsafe {
        gemm_ex(
            *card.blas.handle(),
            operation(b),
            operation(a),
            n as c_int,
            m as c_int,
            k as c_int,
            (&raw const alpha).cast(),
            b.values.address() as *const c_void,
            data_type(b.values),
            b.cols as c_int,
            a.values.address() as *const c_void,
            data_type(a.values),
            a.cols as c_int,
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
