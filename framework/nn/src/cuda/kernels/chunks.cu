#include "common.cuh"

#define KERNELS(T, SUFFIX)                                                                                             \
    extern "C" __global__ void sum_rows_##SUFFIX(float *sums, float *partial, unsigned *counters, const T *values,     \
                                                 unsigned rows, unsigned columns, unsigned add) {                      \
        const auto value = [=](unsigned row, unsigned column) -> float { return values[row * columns + column]; };     \
        sum_columns_whole(sums, partial, counters, rows, columns, add, value);                                         \
    }

FOR_EACH_STORAGE(KERNELS)

/// Of each block the sum of its values.
extern "C" __global__ void sum_values(double *partial, const double *values, unsigned count) {
    double sum = 0;
    each(count, [&](unsigned i) { sum += values[i]; });
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

/// The sum of all, divided; for one block.
extern "C" __global__ void finish_mean(float *mean, const double *partial, unsigned count, double divisor) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        sum += partial[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *mean = float(sum / divisor);
    }
}
