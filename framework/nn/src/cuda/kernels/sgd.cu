#include "common.cuh"

extern "C" __global__ void plain(float *values, const float *grads, float lr, float weight_decay, unsigned count) {
    each(count, [=](unsigned i) { values[i] -= lr * (grads[i] + weight_decay * values[i]); });
}

/// `nesterov` is 1 or 0.
extern "C" __global__ void momentum(float *values, const float *grads, float *directions, float lr, float momentum,
                                    float enters, unsigned nesterov, float weight_decay, unsigned count) {
    each(count, [=](unsigned i) {
        const float grad = grads[i] + weight_decay * values[i];
        const float direction = momentum * directions[i] + enters * grad;
        directions[i] = direction;
        values[i] -= lr * (nesterov ? grad + momentum * direction : direction);
    });
}
