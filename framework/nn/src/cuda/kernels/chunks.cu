#include "common.cuh"

#define KERNELS(T, SUFFIX)                                                                                             \
    extern "C" __global__ void sum_rows_##SUFFIX(float *sums, float *partial, unsigned *counters, const T *values,     \
                                                 unsigned rows, unsigned columns, unsigned add) {                      \
        const auto value = [=](unsigned row, unsigned column) -> float { return values[row * columns + column]; };     \
        sum_columns_whole(sums, partial, counters, rows, columns, add, value);                                         \
    }

FOR_EACH_STORAGE(KERNELS)

/// A tensor of a table.
struct Tensor {
    const float *values;
    unsigned count, first_block;
};

/// Of each block the sum of its squares.
extern "C" __global__ void sum_squares(double *partial, const Tensor *tensors, unsigned count) {
    const Tensor tensor = tensor_of_block(tensors, count);
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    double sum = 0;
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        sum += double(tensor.values[i]) * tensor.values[i];
    }
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
template <class T>
__device__ __forceinline__ void finish(T *result, const double *partial, unsigned count, double divisor) {
    double sum = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        sum += partial[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *result = T(sum / divisor);
    }
}

extern "C" __global__ void finish_mean(float *mean, const double *partial, unsigned count, double divisor) {
    finish(mean, partial, count, divisor);
}

extern "C" __global__ void finish_sum(double *sum, const double *partial, unsigned count) {
    finish(sum, partial, count, 1.0);
}
