#include "common.cuh"

/// An average and the parameter that it follows. Its blocks are those from `first_block` on.
struct Tensor {
    float *average;
    const float *values;
    unsigned count, first_block;
    float keep, take;
};

extern "C" __global__ void ema(const Tensor *tensors, unsigned count) {
    const Tensor tensor = tensor_of_block(tensors, count);
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        const float value = tensor.values[i];
        // What is copied does not depend on what was there: 0 times NaN is NaN.
        tensor.average[i] = tensor.keep == 0 ? value : tensor.keep * tensor.average[i] + tensor.take * value;
    }
}
