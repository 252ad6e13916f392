// cuBLASLt for a machine without a card: dense products of one matrix each, added up in single precision, with a bias or the
// gradient of one. See fakecuda.cpp.
//
// What the documentation of `cublasLtMatmul` does not list is refused, and what an algorithm was not found for ends the program.

#include "products.h"

#include <algorithm>
#include <array>
#include <cstring>

using std::string;
using namespace fakecuda;

namespace {

int the_handle;

// The codes of cublasLt.h.
enum DescAttribute : int { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, BIAS_DATA_TYPE = 26 };
enum PreferenceAttribute : int { MAX_WORKSPACE_BYTES = 1, REDUCTION_SCHEME_MASK = 3, ALIGNMENT_A = 5, ALIGNMENT_D = 8 };
enum Epilogue : int { DEFAULT = 1, BIAS = 4, BGRADA = 256, BGRADB = 512 };

struct Desc {
    ComputeType compute;
    DataType scale;
    int transa = 0, transb = 0;
    Epilogue epilogue = DEFAULT;
    void *bias = nullptr;
    int bias_type = -1; // That of D.
};

struct Layout {
    DataType type;
    uint64_t rows, columns;
    int64_t ld;

    bool operator==(const Layout &other) const {
        return type == other.type && rows == other.rows && columns == other.columns && ld == other.ld;
    }
    size_t bytes() const { return type == R_16BF ? 2 : 4; }
};

struct Preference {
    uint64_t workspace = 0;
    uint32_t reductions = 7;
    uint32_t alignments[4] = {256, 256, 256, 256};
};

/// As much as every algorithm wants.
constexpr size_t WORKSPACE = 256;

/// What the caller keeps in 64 bytes: which product it was found for.
struct Algorithm {
    char name[8];
    uint64_t m, n, k;
    int32_t epilogue, types;
    uint32_t alignment, bias_alignment;
    char rest[16];
};
static_assert(sizeof(Algorithm) == 64);

struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace;
    BlasResult state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

uint32_t alignment_of(const void *pointer) {
    const auto address = reinterpret_cast<uintptr_t>(pointer) | 256;
    return uint32_t(address & -address);
}

/// A product, from the descriptions of it.
struct Problem {
    const Desc &desc;
    const Layout &a, &b, &c, &d;
    uint64_t m = d.rows, n = d.columns, k = desc.transa ? a.rows : a.columns;

    bool fits() const {
        const Layout of_a = desc.transa ? Layout{a.type, k, m, a.ld} : Layout{a.type, m, k, a.ld};
        const Layout of_b = desc.transb ? Layout{b.type, n, k, b.ld} : Layout{b.type, k, n, b.ld};
        const auto is_wide_enough = [](const Layout &layout) { return layout.ld >= int64_t(std::max<uint64_t>(1, layout.rows)); };
        return a == of_a && b == of_b && c == d && m > 0 && n > 0 && k > 0 && is_wide_enough(a) && is_wide_enough(b) &&
               is_wide_enough(d);
    }

    bool is_supported() const {
        const bool floats = a.type == R_32F && d.type == R_32F && (desc.compute == COMPUTE_32F || desc.compute == COMPUTE_32F_FAST_TF32);
        const bool halves = a.type == R_16BF && (d.type == R_32F || d.type == R_16BF) && desc.compute == COMPUTE_32F;
        if (a.type != b.type || desc.scale != R_32F || !(floats || halves)) {
            return false;
        }
        // Not in the documentation: products of odd sizes have fewer kernels on a card.
        const bool odd = halves && (a.ld % 2 || b.ld % 2 || d.ld % 2);
        return desc.epilogue == DEFAULT ||
               (!odd && desc.bias && (desc.bias_type == -1 || desc.bias_type == d.type) &&
                (desc.epilogue == BIAS || desc.epilogue == BGRADA || desc.epilogue == BGRADB));
    }

    Algorithm algorithm() const {
        Algorithm algorithm = {};
        memcpy(algorithm.name, "product", 8);
        algorithm.m = m, algorithm.n = n, algorithm.k = k;
        algorithm.epilogue = desc.epilogue;
        algorithm.types = a.type + 16 * d.type + 256 * desc.transa + 512 * desc.transb;
        algorithm.bias_alignment = desc.epilogue == DEFAULT ? 1 : std::min(16u, alignment_of(desc.bias));
        return algorithm;
    }
};

template <class T>
BlasResult set(T &attribute, const void *value, size_t bytes) {
    if (bytes != sizeof(T)) {
        return BLAS_INVALID_VALUE;
    }
    memcpy(&attribute, value, bytes);
    return BLAS_SUCCESS;
}

/// The sums over what a product sums over: of rows of op(A), or of columns of op(B).
std::vector<float> bias_gradient(const Problem &problem, const std::vector<float> &a, const std::vector<float> &b) {
    const bool of_a = problem.desc.epilogue == BGRADA, transposed = of_a ? problem.desc.transa : problem.desc.transb;
    const std::vector<float> &values = of_a ? a : b;
    const size_t count = of_a ? problem.m : problem.n;
    const bool in_columns = of_a ? transposed : !transposed;
    std::vector<float> sums(count);
    for (size_t i = 0; i < count; ++i) {
        for (size_t p = 0; p < problem.k; ++p) {
            sums[i] += in_columns ? values[i * problem.k + p] : values[p * count + i];
        }
    }
    return sums;
}

} // namespace

EXPORT BlasResult cublasLtCreate(void **handle) {
    *handle = &the_handle;
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtDestroy(void *) { return BLAS_SUCCESS; }

EXPORT BlasResult cublasLtMatrixLayoutCreate(Layout **layout, DataType type, uint64_t rows, uint64_t columns, int64_t ld) {
    *layout = new Layout{type, rows, columns, ld};
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtMatrixLayoutDestroy(Layout *layout) {
    delete layout;
    return BLAS_SUCCESS;
}

EXPORT BlasResult cublasLtMatmulDescCreate(Desc **desc, ComputeType compute, DataType scale) {
    *desc = new Desc{compute, scale};
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtMatmulDescDestroy(Desc *desc) {
    delete desc;
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
    switch (attribute) {
    case TRANSA: return set(desc->transa, value, bytes);
    case TRANSB: return set(desc->transb, value, bytes);
    case EPILOGUE: return set(desc->epilogue, value, bytes);
    case BIAS_POINTER: return set(desc->bias, value, bytes);
    case BIAS_DATA_TYPE: return set(desc->bias_type, value, bytes);
    default: return BLAS_INVALID_VALUE;
    }
}

EXPORT BlasResult cublasLtMatmulPreferenceCreate(Preference **preference) {
    *preference = new Preference;
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtMatmulPreferenceDestroy(Preference *preference) {
    delete preference;
    return BLAS_SUCCESS;
}
EXPORT BlasResult cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, size_t bytes) {
    if (ALIGNMENT_A <= attribute && attribute <= ALIGNMENT_D) {
        return set(preference->alignments[attribute - ALIGNMENT_A], value, bytes);
    }
    switch (attribute) {
    case MAX_WORKSPACE_BYTES: return set(preference->workspace, value, bytes);
    case REDUCTION_SCHEME_MASK: return set(preference->reductions, value, bytes);
    default: return BLAS_INVALID_VALUE;
    }
}

EXPORT BlasResult cublasLtMatmulAlgoGetHeuristic(void *, const Desc *desc, const Layout *a, const Layout *b, const Layout *c,
                                                 const Layout *d, const Preference *preference, int requested,
                                                 HeuristicResult *results, int *found) {
    count("cublasLtMatmulAlgoGetHeuristic");
    *found = 0;
    const Problem problem{*desc, *a, *b, *c, *d};
    if (!problem.fits() || requested < 1) {
        return BLAS_INVALID_VALUE;
    }
    if (!problem.is_supported() || preference->workspace < WORKSPACE) {
        return BLAS_NOT_SUPPORTED;
    }
    HeuristicResult &result = results[0];
    result = {};
    result.algorithm = problem.algorithm();
    result.algorithm.alignment = *std::min_element(preference->alignments, preference->alignments + 4);
    result.workspace = WORKSPACE;
    *found = 1;
    return BLAS_SUCCESS;
}

EXPORT BlasResult cublasLtMatmul(void *, const Desc *desc, const float *alpha, const void *a, const Layout *of_a, const void *b,
                                 const Layout *of_b, const float *beta, const void *c, const Layout *of_c, void *d,
                                 const Layout *of_d, const Algorithm *algorithm, void *workspace, size_t workspace_bytes, void *) {
    const Problem problem{*desc, *of_a, *of_b, *of_c, *of_d};
    const auto [m, n, k] = std::array{problem.m, problem.n, problem.k};
    const string name = of_a->type == R_16BF ? "cublasLtMatmul bf16" : "cublasLtMatmul";
    if (!problem.fits() || workspace_bytes < WORKSPACE || alignment_of(workspace) < 256) {
        return BLAS_INVALID_VALUE;
    }
    if (!is_on_device(reinterpret_cast<Pointer>(workspace), workspace_bytes)) {
        die("illegal address in " + name + ": the workspace does not lie in one allocation");
    }
    Algorithm expected = problem.algorithm();
    expected.alignment = algorithm->alignment, expected.bias_alignment = algorithm->bias_alignment;
    const uint32_t alignment = std::min({alignment_of(a), alignment_of(b), alignment_of(c), alignment_of(d)});
    const bool bias_fits = desc->epilogue == DEFAULT || alignment_of(desc->bias) >= algorithm->bias_alignment;
    if (memcmp(&expected, algorithm, sizeof expected) != 0 || alignment < algorithm->alignment || !bias_fits) {
        die(name + " with an algorithm for another product, or for addresses that are aligned otherwise");
    }
    if (is_left_out(name.c_str(), m, n, k, 1)) {
        return BLAS_SUCCESS;
    }
    if (counts_only()) {
        count("gemm " + name, 2.0 * m * n * k);
        return BLAS_SUCCESS;
    }
    const auto start = Clock::now();
    const std::vector<float> left = columns_of(name.c_str(), a, of_a->type, of_a->rows, of_a->columns, of_a->ld);
    const std::vector<float> right = columns_of(name.c_str(), b, of_b->type, of_b->rows, of_b->columns, of_b->ld);
    std::vector<float> sums(m * n);
    if (*beta != 0) {
        sums = columns_of(name.c_str(), c, of_c->type, m, n, of_c->ld);
        std::for_each(sums.begin(), sums.end(), [&](float &sum) { sum *= *beta; });
    }
    columns_of(name.c_str(), d, of_d->type, m, n, of_d->ld); // That it lies in one allocation.
    multiply(m, n, k, *alpha, {left.data(), desc->transa ? of_a->rows : 1, desc->transa ? 1 : of_a->rows},
             {right.data(), desc->transb ? of_b->rows : 1, desc->transb ? 1 : of_b->rows}, sums.data(), m,
             desc->compute == COMPUTE_32F_FAST_TF32);
    if (desc->epilogue == BIAS) {
        const std::vector<float> bias = columns_of(name.c_str(), desc->bias, of_d->type, m, 1, m);
        for (size_t i = 0; i < m * n; ++i) {
            sums[i] += bias[i % m];
        }
    } else if (desc->epilogue != DEFAULT) {
        const std::vector<float> gradient = bias_gradient(problem, left, right);
        columns_of(name.c_str(), desc->bias, of_d->type, gradient.size(), 1, gradient.size());
        for (size_t i = 0; i < gradient.size(); ++i) {
            set_value_at(desc->bias, of_d->type, i, gradient[i]);
        }
    }
    for (size_t i = 0; i < m * n; ++i) {
        set_value_at(d, of_d->type, i / m * of_d->ld + i % m, sums[i]);
    }
    count("gemm " + name, 2.0 * m * n * k, seconds_since(start));
    return BLAS_SUCCESS;
}
