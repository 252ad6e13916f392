#include "common.cuh"

/// A parameter with its direction, which is null without momentum. Its blocks are those from `first_block` on.
struct Tensor {
    float *values;
    const float *grad;
    float *direction;
    unsigned count, first_block;
    float lr, momentum, enters, weight_decay;
    unsigned long long nesterov;
};

extern "C" __global__ void sgd(const Tensor *tensors, unsigned count, const GradScale *scale) {
    if (scale->found_inf) {
        return;
    }
    const Tensor tensor = tensor_of_block(tensors, count);
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        const float value = tensor.values[i];
        const float grad = scale->factor * tensor.grad[i] + tensor.weight_decay * value;
        float update = grad;
        if (tensor.direction) {
            const float direction = tensor.momentum * tensor.direction[i] + tensor.enters * grad;
            tensor.direction[i] = direction;
            update = tensor.nesterov ? grad + tensor.momentum * direction : direction;
        }
        tensor.values[i] = value - tensor.lr * update;
    }
}
