#include "common.cuh"

/// A parameter with its direction. Its `blocks` blocks are those from `first_block` on. `trust` is 0 where the gradient is not scaled.
struct Tensor {
    float *values;
    const float *grad;
    float *mu;
    unsigned count, first_block, blocks;
    float lr, momentum, weight_decay;
    double trust;
};

__device__ __forceinline__ float decayed(const Tensor &tensor, float scale, unsigned i) {
    return scale * tensor.grad[i] + tensor.weight_decay * tensor.values[i];
}

/// Of each block the sums of the squares of the values, and of the decayed gradients.
extern "C" __global__ void sum_squares(Two<double> *partial, const Tensor *tensors, unsigned count,
                                       const GradScale *scale) {
    const Tensor tensor = tensor_of_block(tensors, count);
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    double squares = 0, decayed_squares = 0;
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        const double value = tensor.values[i], gradient = decayed(tensor, scale->factor, i);
        squares += value * value;
        decayed_squares += gradient * gradient;
    }
    squares = block_sum(squares);
    decayed_squares = block_sum(decayed_squares);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = {squares, decayed_squares};
    }
}

/// What the decayed gradient of each tensor is multiplied by, a block each; 1 where it or the tensor is zero.
extern "C" __global__ void trust(float *factors, const Two<double> *partial, const Tensor *tensors) {
    const Tensor tensor = tensors[blockIdx.x];
    double squares = 0, decayed_squares = 0;
    for (unsigned i = threadIdx.x; i < tensor.blocks; i += THREADS) {
        squares += partial[tensor.first_block + i].a;
        decayed_squares += partial[tensor.first_block + i].b;
    }
    const double norm = sqrt(block_sum(squares)), decayed = sqrt(block_sum(decayed_squares));
    if (threadIdx.x == 0) {
        const bool scaled = tensor.trust > 0.0 && norm > 0.0 && decayed > 0.0;
        factors[blockIdx.x] = scaled ? float(tensor.trust * norm / decayed) : 1.0f;
    }
}

extern "C" __global__ void lars(const Tensor *tensors, unsigned count, const float *factors, const GradScale *scale) {
    if (scale->found_inf) {
        return;
    }
    const Tensor &tensor = tensor_of_block(tensors, count);
    const float factor = factors[&tensor - tensors];
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        const float direction = tensor.momentum * tensor.mu[i] + factor * decayed(tensor, scale->factor, i);
        tensor.mu[i] = direction;
        tensor.values[i] -= tensor.lr * direction;
    }
}
