#include "common.cuh"

/// What is not a number stays so.
extern "C" __global__ void forward(float *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[i] <= 0.0f ? 0.0f : x[i]; });
}

extern "C" __global__ void backward(float *grad, const float *x, unsigned count) {
    each(count, [=](unsigned i) { grad[i] = x[i] <= 0.0f ? 0.0f : grad[i]; });
}
