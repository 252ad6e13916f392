#include "common.cuh"

/// A tensor of a table.
struct Tensor {
    const float *values;
    unsigned count, first_block;
};

__device__ __forceinline__ bool is_finite(double x) { return !isnan(x) && !isinf(x); }

/// Writes to `numbers` the sum of the squares of `count` tensors, and the `losses` values behind them in the table; to `scale` what makes
/// the norm at most `max_norm`, and whether one of these is not finite. `counter` is a 0.
extern "C" __global__ void step_end(double *numbers, GradScale *scale, double *partial, unsigned *counter,
                                    const Tensor *tensors, unsigned count, unsigned losses, double max_norm) {
    double sum = 0;
    if (count > 0) {
        const Tensor tensor = tensor_of_block(tensors, count);
        const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
        for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
            sum += double(tensor.values[i]) * tensor.values[i];
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
    }
    if (!is_last_block(counter, gridDim.x)) {
        return;
    }
    const volatile double *written = partial;
    double total = 0;
    for (unsigned block = threadIdx.x; block < gridDim.x; block += THREADS) {
        total += written[block];
    }
    total = block_sum(total);
    if (threadIdx.x == 0) {
        bool finite = is_finite(total);
        numbers[0] = total;
        for (unsigned i = 0; i < losses; ++i) {
            const double loss = *tensors[count + i].values;
            numbers[1 + i] = loss;
            finite = finite && is_finite(loss);
        }
        const double factor = max_norm / (sqrt(total) + 1e-6);
        scale->factor = factor < 1.0 ? float(factor) : 1.0f;
        if (!finite) {
            scale->found_inf = 1;
        }
    }
}
