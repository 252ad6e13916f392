#include "common.cuh"

/// Of each block the sums of the squares of the values, and of `grad + weight_decay * values`.
extern "C" __global__ void sum_squares(Two<double> *partial, const float *values, const float *grads,
                                       float weight_decay, unsigned count) {
    double squares = 0, decayed_squares = 0;
    each(count, [&](unsigned i) {
        const double value = values[i], decayed = grads[i] + weight_decay * values[i];
        squares += value * value;
        decayed_squares += decayed * decayed;
    });
    squares = block_sum(squares);
    decayed_squares = block_sum(decayed_squares);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = {squares, decayed_squares};
    }
}

/// What the decayed gradient is multiplied by; 1 where it or the tensor is zero. For one block.
extern "C" __global__ void trust(float *scale, const Two<double> *partial, double coefficient, unsigned count) {
    if (threadIdx.x == 0) {
        const Two<double> sum = sum_chunks(partial, count, 1, 0);
        const double norm = sqrt(sum.a), decayed = sqrt(sum.b);
        *scale = norm > 0.0 && decayed > 0.0 ? float(coefficient * norm / decayed) : 1.0f;
    }
}

/// `scale` is null where the gradient is not scaled.
extern "C" __global__ void lars(float *values, const float *grads, float *mu, const float *scale, float lr,
                                float momentum, float weight_decay, unsigned count) {
    const float factor = scale ? *scale : 1.0f;
    each(count, [=](unsigned i) {
        const float direction = momentum * mu[i] + factor * (grads[i] + weight_decay * values[i]);
        mu[i] = direction;
        values[i] -= lr * direction;
    });
}
