#include "common.cuh"
#include "gelu.cuh"

extern "C" __global__ void add_bias(float *y, const float *bias, unsigned columns, unsigned count) {
    each(count, [=](unsigned i) { y[i] += bias[i % columns]; });
}

/// The bias may be null.
extern "C" __global__ void add_residual(float *y, const float *bias, const float *residual, unsigned columns,
                                        unsigned count) {
    each(count, [=](unsigned i) {
        const float sum = y[i] + residual[i];
        y[i] = bias ? sum + bias[i % columns] : sum;
    });
}

/// Adds the bias, which may be null, and writes the activations.
extern "C" __global__ void add_bias_gelu(float *y, float *activations, const float *bias, unsigned columns,
                                         unsigned count) {
    each(count, [=](unsigned i) {
        const float sum = bias ? y[i] + bias[i % columns] : y[i];
        y[i] = sum;
        activations[i] = gelu(sum);
    });
}
