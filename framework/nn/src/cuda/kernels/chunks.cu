#include "common.cuh"

extern "C" __global__ void sum_rows(float *partial, const float *values, unsigned rows, unsigned columns) {
    sum_columns(partial, rows, columns, [=](unsigned row, unsigned column) { return values[row * columns + column]; });
}

/// Adds to `sums` what they are if `add` is 1, and nothing if it is 0.
extern "C" __global__ void finish_rows(float *sums, const float *partial, unsigned chunks, unsigned columns, unsigned add) {
    each(columns, [=](unsigned column) {
        const float sum = sum_chunks(partial, chunks, columns, column);
        sums[column] = add ? sums[column] + sum : sum;
    });
}

/// Of each block the sum of its squares.
extern "C" __global__ void sum_squares(double *partial, const float *values, unsigned count) {
    double sum = 0;
    each(count, [&](unsigned i) { sum += double(values[i]) * values[i]; });
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
}

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
