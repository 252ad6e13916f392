// cuBLAS for a machine without a card, as far as cudarc 0.9 and dfdx 0.13 call it. See fakecuda.cpp.

#include "products.h"
#include "shim.h"

using std::string;
using namespace fakecuda;

namespace {

int the_blas;

/// A number as TF32 has it: 10 bits behind the point, to the nearest.
float tf32(float x) {
    const unsigned bits = fakecuda_bits<unsigned>(x);
    return std::isfinite(x) ? fakecuda_bits<float>((bits + 0x1000) & ~0x1fffu) : x;
}

#ifdef __AVX512F__
constexpr size_t LANES = 16, ROWS = 2 * LANES, COLUMNS = 12;
#else
constexpr size_t LANES = 8, ROWS = 2 * LANES, COLUMNS = 6;
#endif
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

/// Copies `rows` x `depth` elements into strips of `STRIP` rows, each depth after depth, with zeros where rows are missing.
template <size_t STRIP>
void pack(float *to, Matrix<float> from, size_t rows, size_t depth, bool rounded) {
    for (size_t start = 0; start < rows; start += STRIP, to += STRIP * depth) {
        for (size_t r = 0; r < STRIP; ++r) {
            if (start + r >= rows) {
                for (size_t p = 0; p < depth; ++p) {
                    to[p * STRIP + r] = 0;
                }
                continue;
            }
            const float *row = from.at + (start + r) * from.row;
            for (size_t p = 0; p < depth; ++p) {
                const float x = row[p * from.column];
                to[p * STRIP + r] = rounded ? tf32(x) : x;
            }
        }
    }
}

/// Adds `alpha` times the product of two strips to `rows` x `columns` elements.
void multiply_strips(const float *a, const float *b, size_t depth, float alpha, float *c, size_t ldc, size_t rows, size_t columns) {
    Lanes sums[COLUMNS][2] = {};
    for (size_t p = 0; p < depth; ++p, a += ROWS, b += COLUMNS) {
        const Lanes a0 = *reinterpret_cast<const Lanes *>(a), a1 = *reinterpret_cast<const Lanes *>(a + LANES);
#pragma GCC unroll 12
        for (size_t j = 0; j < COLUMNS; ++j) {
            sums[j][0] += a0 * b[j];
            sums[j][1] += a1 * b[j];
        }
    }
    for (size_t j = 0; j < columns; ++j) {
        for (size_t i = 0; i < rows; ++i) {
            c[j * ldc + i] += alpha * sums[j][i / LANES][i % LANES];
        }
    }
}

} // namespace

void multiply(size_t m, size_t n, size_t k, float alpha, Matrix<float> a, Matrix<float> b, float *c, size_t ldc, bool may_round) {
    static const string override = setting("NVIDIA_TF32_OVERRIDE");
    const bool rounded = override == "1" || (may_round && override != "0");
    constexpr size_t DEPTH = 256, M = 8 * ROWS, N = 256 * COLUMNS;
    thread_local std::vector<float> packed_a(DEPTH * M), packed_b(DEPTH * N);
    for (size_t j = 0; j < n; j += N) {
        const size_t columns = std::min(N, n - j);
        for (size_t p = 0; p < k; p += DEPTH) {
            const size_t depth = std::min(DEPTH, k - p);
            const Matrix<float> right = {b.at + p * b.row + j * b.column, b.column, b.row};
            pack<COLUMNS>(packed_b.data(), right, columns, depth, rounded);
            for (size_t i = 0; i < m; i += M) {
                const size_t rows = std::min(M, m - i);
                pack<ROWS>(packed_a.data(), {a.at + i * a.row + p * a.column, a.row, a.column}, rows, depth, rounded);
                for (size_t jj = 0; jj < columns; jj += COLUMNS) {
                    for (size_t ii = 0; ii < rows; ii += ROWS) {
                        multiply_strips(packed_a.data() + ii * depth, packed_b.data() + jj * depth, depth, alpha,
                                        c + (j + jj) * ldc + i + ii, ldc, std::min(ROWS, rows - ii),
                                        std::min(COLUMNS, columns - jj));
                    }
                }
            }
        }
    }
}

static void multiply(size_t m, size_t n, size_t k, double alpha, Matrix<double> a, Matrix<double> b, double *c, size_t ldc, bool) {
    for (size_t j = 0; j < n; ++j) {
        for (size_t i = 0; i < m; ++i) {
            double sum = 0;
            for (size_t p = 0; p < k; ++p) {
                sum += a.at[i * a.row + p * a.column] * b.at[p * b.row + j * b.column];
            }
            c[j * ldc + i] += alpha * sum;
        }
    }
}

bool is_left_out(const char *name, size_t m, size_t n, size_t k, size_t batch) {
    static const double largest = std::stod(setting("FAKECUDA_LARGEST_PRODUCT", "inf"));
    const double operations = 2.0 * m * n * k * batch;
    if (operations <= largest) {
        return false;
    }
    fprintf(stderr, "fakecuda: %s left out, it is larger than FAKECUDA_LARGEST_PRODUCT: m %zu, n %zu, k %zu, batch %zu\n", name, m, n,
            k, batch);
    count(string("left out: ") + name, operations);
    return true;
}

float value_at(const void *values, DataType type, size_t at) {
    if (type == R_32F) {
        return static_cast<const float *>(values)[at];
    }
    return fakecuda_bits<float>(uint32_t(static_cast<const uint16_t *>(values)[at]) << 16);
}

void set_value_at(void *values, DataType type, size_t at, float value) {
    if (type == R_32F) {
        static_cast<float *>(values)[at] = value;
        return;
    }
    // To the nearest, and of two to the one that ends with 0.
    const uint32_t all = fakecuda_bits<uint32_t>(value);
    static_cast<uint16_t *>(values)[at] = value != value ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16;
}

namespace {

/// The last byte that a matrix of a batch has, from the first one on.
size_t extent(size_t rows, size_t columns, size_t ld, long long stride, size_t batch, size_t bytes) {
    return bytes * (stride * (batch - 1) + ld * (columns - 1) + rows);
}

} // namespace

std::vector<float> columns_of(const char *name, const void *at, DataType type, size_t rows, size_t columns, size_t ld) {
    std::vector<float> values(rows * columns);
    const size_t bytes = type == R_16BF ? 2 : 4;
    if (!values.empty() && !is_on_device(reinterpret_cast<Pointer>(at), extent(rows, columns, ld, 0, 1, bytes))) {
        die(string("illegal address in ") + name + ": a matrix does not lie in one allocation");
    }
    for (size_t j = 0; j < columns; ++j) {
        for (size_t i = 0; i < rows; ++i) {
            values[j * rows + i] = value_at(at, type, j * ld + i);
        }
    }
    return values;
}

namespace {

template <class T>
BlasResult gemm(const char *name, bool transpose_a, bool transpose_b, int m, int n, int k, T alpha, const T *a, int lda,
                long long stride_a, const T *b, int ldb, long long stride_b, T beta, T *c, int ldc, long long stride_c, int batch,
                bool may_round = false) {
    const int rows_a = transpose_a ? k : m, columns_a = transpose_a ? m : k;
    const int rows_b = transpose_b ? n : k, columns_b = transpose_b ? k : n;
    const bool valid = m >= 0 && n >= 0 && k >= 0 && batch >= 0 && lda >= std::max(1, rows_a) && ldb >= std::max(1, rows_b) &&
                       ldc >= std::max(1, m);
    if (!valid) {
        fprintf(stderr, "fakecuda: %s refuses m %d, n %d, k %d, lda %d (%s), ldb %d (%s), ldc %d, batch %d\n", name, m, n, k, lda,
                transpose_a ? "T" : "N", ldb, transpose_b ? "T" : "N", ldc, batch);
        return BLAS_INVALID_VALUE;
    }
    if (m == 0 || n == 0 || batch == 0) {
        return BLAS_SUCCESS;
    }
    const auto inside = [&](const T *at, size_t rows, size_t columns, size_t ld, long long stride) {
        return rows == 0 || columns == 0 ||
               is_on_device(reinterpret_cast<Pointer>(at), extent(rows, columns, ld, stride, batch, sizeof(T)));
    };
    if (!inside(a, rows_a, columns_a, lda, stride_a) || !inside(b, rows_b, columns_b, ldb, stride_b) ||
        !inside(c, m, n, ldc, stride_c)) {
        die(string("illegal address in ") + name + ": a matrix does not lie in one allocation");
    }
    if (is_left_out(name, m, n, k, batch)) {
        return BLAS_SUCCESS;
    }
    const auto start = Clock::now();
    for (int i = 0; i < batch && !counts_only(); ++i) {
        T *out = c + i * stride_c;
        for (int j = 0; beta != 1 && j < n; ++j) {
            for (int r = 0; r < m; ++r) {
                T &x = out[size_t(j) * ldc + r];
                x = beta == 0 ? 0 : x * beta; // Without reading it, where it is not asked for.
            }
        }
        const Matrix<T> left = {a + i * stride_a, transpose_a ? size_t(lda) : 1, transpose_a ? 1 : size_t(lda)};
        const Matrix<T> right = {b + i * stride_b, transpose_b ? size_t(ldb) : 1, transpose_b ? 1 : size_t(ldb)};
        multiply(m, n, k, alpha, left, right, out, ldc, may_round);
    }
    count(string("gemm ") + name, 2.0 * m * n * k * batch, seconds_since(start));
    return BLAS_SUCCESS;
}

/// A product some of whose matrices are stored in bf16; it is added up in single precision.
BlasResult gemm_bf16(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const void *a, DataType a_type,
                     size_t lda, const void *b, DataType b_type, size_t ldb, float beta, void *c, DataType c_type, size_t ldc) {
    const char *name = "cublasGemmEx bf16";
    if (counts_only()) {
        count(string("gemm ") + name, 2.0 * m * n * k);
        return BLAS_SUCCESS;
    }
    const auto start = Clock::now();
    const size_t rows_a = transpose_a ? k : m, rows_b = transpose_b ? n : k;
    const std::vector<float> left = columns_of(name, a, a_type, rows_a, transpose_a ? m : k, lda);
    const std::vector<float> right = columns_of(name, b, b_type, rows_b, transpose_b ? k : n, ldb);
    std::vector<float> sums = columns_of(name, c, c_type, m, n, ldc);
    for (float &sum : sums) {
        sum = beta == 0 ? 0 : sum * beta;
    }
    multiply(m, n, k, alpha, {left.data(), transpose_a ? rows_a : 1, transpose_a ? 1 : rows_a},
             {right.data(), transpose_b ? rows_b : 1, transpose_b ? 1 : rows_b}, sums.data(), m, false);
    for (size_t j = 0; j < n; ++j) {
        for (size_t i = 0; i < m; ++i) {
            set_value_at(c, c_type, j * ldc + i, sums[j * m + i]);
        }
    }
    count(string("gemm ") + name, 2.0 * m * n * k, seconds_since(start));
    return BLAS_SUCCESS;
}

} // namespace

/// Of floats and bf16, added up in floats. The two factors have one type.
EXPORT BlasResult cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, DataType a_type, int lda,
                               const void *b, DataType b_type, int ldb, const void *beta, void *c, DataType c_type, int ldc,
                               ComputeType compute, int) {
    const auto known = [](DataType type) { return type == R_32F || type == R_16BF; };
    if (!known(a_type) || a_type != b_type || !known(c_type) || (a_type == R_32F && c_type != R_32F) ||
        (compute != COMPUTE_32F && compute != COMPUTE_32F_FAST_TF32)) {
        fprintf(stderr, "fakecuda: cublasGemmEx of types %d, %d and %d, in %d\n", a_type, b_type, c_type, compute);
        return BLAS_NOT_SUPPORTED;
    }
    const float times = *static_cast<const float *>(alpha), kept = *static_cast<const float *>(beta);
    if (a_type == R_32F) {
        return gemm<float>("cublasGemmEx", ta, tb, m, n, k, times, static_cast<const float *>(a), lda, 0,
                           static_cast<const float *>(b), ldb, 0, kept, static_cast<float *>(c), ldc, 0, 1,
                           compute == COMPUTE_32F_FAST_TF32);
    }
    if (m < 0 || n < 0 || k < 0 || lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m)) {
        return BLAS_INVALID_VALUE;
    }
    return gemm_bf16(ta, tb, m, n, k, times, a, a_type, lda, b, b_type, ldb, kept, c, c_type, ldc);
}

EXPORT BlasResult cublasCreate_v2(void **handle) {
    *handle = &the_blas;
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasDestroy_v2(void *) { return BLAS_SUCCESS; }
EXPORT BlasResult cublasSetStream_v2(void *, void *) { return BLAS_SUCCESS; }

#define GEMM(T, name)                                                                                                         \
    EXPORT BlasResult name##_v2(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda, const T *b, \
                                int ldb, const T *beta, T *c, int ldc) {                                                      \
        return gemm<T>(#name, ta, tb, m, n, k, *alpha, a, lda, 0, b, ldb, 0, *beta, c, ldc, 0, 1);                            \
    }                                                                                                                         \
    EXPORT BlasResult name##StridedBatched(void *, int ta, int tb, int m, int n, int k, const T *alpha, const T *a, int lda,  \
                                           long long stride_a, const T *b, int ldb, long long stride_b, const T *beta, T *c,  \
                                           int ldc, long long stride_c, int batch) {                                          \
        return gemm<T>(#name "StridedBatched", ta, tb, m, n, k, *alpha, a, lda, stride_a, b, ldb, stride_b, *beta, c, ldc,    \
                       stride_c, batch);                                                                                      \
    }
GEMM(float, cublasSgemm)
GEMM(double, cublasDgemm)

// A processor has no reduced precision.
EXPORT BlasResult cublasSetMathMode(void *, int) { return BLAS_SUCCESS; }

// What cudarc has a function for and dfdx does not call.
#define NOT_WRITTEN(name)                                        \
    EXPORT BlasResult name() {                                   \
        fprintf(stderr, "fakecuda: " #name " is not written\n"); \
        return BLAS_NOT_SUPPORTED;                               \
    }
NOT_WRITTEN(cublasSgemv_v2)
NOT_WRITTEN(cublasDgemv_v2)
NOT_WRITTEN(cublasHgemm)
NOT_WRITTEN(cublasHgemmStridedBatched)
NOT_WRITTEN(cublasGemmStridedBatchedEx)
