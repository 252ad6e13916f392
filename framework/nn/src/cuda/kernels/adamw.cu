#include "common.cuh"

/// What a step comes to for a single value, as in `cpu/adamw.rs`.
struct Factors {
    float keep, step_size, correction, eps, betas[2], rests[2];
};

/// A parameter and its moments, of equal length. Its blocks are those from `first_block` on.
struct Tensor {
    float *values;
    const float *grad;
    float *exp_avg, *exp_avg_sq;
    unsigned count, first_block;
    Factors factors;
};

extern "C" __global__ void adamw(const Tensor *tensors, unsigned count, const GradScale *scale) {
    if (scale->found_inf) {
        return;
    }
    const Tensor tensor = tensor_of_block(tensors, count);
    const Factors &f = tensor.factors;
    const unsigned start = (blockIdx.x - tensor.first_block) * CHUNK, end = min(start + CHUNK, tensor.count);
    for (unsigned i = start + threadIdx.x; i < end; i += THREADS) {
        const float grad = scale->factor * tensor.grad[i];
        const float m = f.betas[0] * tensor.exp_avg[i] + f.rests[0] * grad;
        const float v = f.betas[1] * tensor.exp_avg_sq[i] + f.rests[1] * grad * grad;
        tensor.exp_avg[i] = m;
        tensor.exp_avg_sq[i] = v;
        tensor.values[i] = tensor.values[i] * f.keep - f.step_size * m / (sqrtf(v) / f.correction + f.eps);
    }
}
