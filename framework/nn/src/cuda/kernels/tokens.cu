#include "common.cuh"

template <class T>
__device__ __forceinline__ void gather_rows(T *output, const T *rows, const float *extra, const unsigned *index,
                                            unsigned count_rows, unsigned width, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = index[i / width], column = i % width;
        output[i] = row < count_rows ? float(rows[row * width + column]) : extra[column];
    });
}

extern "C" __global__ void add_rows(float *x, const float *table, const unsigned *index, unsigned count_rows,
                                    unsigned width, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = index[i / width];
        if (row < count_rows) {
            x[i] += table[row * width + i % width];
        }
    });
}

/// Adds to `sums` what they are if `add` is 1, and nothing if it is 0. The places of row `r` are `index[index[r]]`
/// and the following ones.
extern "C" __global__ void scatter_rows(float *sums, const float *grad, const unsigned *index, unsigned width, unsigned add,
                                        unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = i / width, column = i % width;
        float sum = add ? sums[i] : 0.0f;
        for (unsigned at = index[row]; at < index[row + 1]; ++at) {
            sum += grad[index[at] * width + column];
        }
        sums[i] = sum;
    });
}

template <class T>
__device__ __forceinline__ void scatter_row(float *sums, float *partial, unsigned *counters, const T *grad,
                                            const unsigned *places, unsigned count, unsigned width) {
    const auto value = [=](unsigned at, unsigned column) -> float { return grad[places[at] * width + column]; };
    sum_columns_whole(sums, partial, counters, count, width, 0, value);
}

#define KERNELS(T, SUFFIX)                                                                                             \
    extern "C" __global__ void gather_rows_##SUFFIX(T *output, const T *rows, const float *extra,                      \
                                                    const unsigned *index, unsigned count_rows, unsigned width,        \
                                                    unsigned count) {                                                  \
        gather_rows(output, rows, extra, index, count_rows, width, count);                                             \
    }                                                                                                                  \
    extern "C" __global__ void scatter_row_##SUFFIX(float *sums, float *partial, unsigned *counters, const T *grad,    \
                                                    const unsigned *places, unsigned count, unsigned width) {          \
        scatter_row(sums, partial, counters, grad, places, count, width);                                              \
    }

FOR_EACH_STORAGE(KERNELS)
