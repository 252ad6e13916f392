// Products of matrices, column by column, for cuBLAS and cuBLASLt.
#pragma once

#include "fakecuda.h"

#include <cstdint>
#include <vector>

// The codes of library_types.h and of cublas_api.h.
enum BlasResult : int { BLAS_SUCCESS = 0, BLAS_INVALID_VALUE = 7, BLAS_NOT_SUPPORTED = 15 };
enum DataType : int { R_32F = 0, R_16BF = 14 };
enum ComputeType : int { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };

/// Element (i, j) is at `at[i * row + j * column]`.
template <class T>
struct Matrix {
    const T *at;
    size_t row, column;
};

/// Adds `alpha` times the product of `m` x `k` and `k` x `n` elements to `c`. `may_round`: the factors may be rounded to TF32.
void multiply(size_t m, size_t n, size_t k, float alpha, Matrix<float> a, Matrix<float> b, float *c, size_t ldc, bool may_round);

/// Whether a product is to be left out, for its size: says so.
bool is_left_out(const char *name, size_t m, size_t n, size_t k, size_t batch);

/// Values in single precision, of those of a type.
float value_at(const void *values, DataType type, size_t at);
void set_value_at(void *values, DataType type, size_t at, float value);

/// The columns of a matrix one behind the other, in single precision. `name` is of the function that asks.
std::vector<float> columns_of(const char *name, const void *at, DataType type, size_t rows, size_t columns, size_t ld);
