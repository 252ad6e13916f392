#include "common.cuh"

extern "C" __global__ void to_bf16(Bf16 *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[i]; });
}

extern "C" __global__ void to_f32(float *y, const Bf16 *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[i]; });
}

/// A tensor and where it goes. Its blocks are those from `first_block` on.
struct Rounding {
    const float *from;
    Bf16 *to;
    unsigned count, first_block;
};

extern "C" __global__ void round_all(const Rounding *tensors, unsigned count) {
    const Rounding tensor = tensor_of_block(tensors, count);
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        tensor.to[i] = tensor.from[i];
    }
}
