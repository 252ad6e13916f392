#include "common.cuh"
#include "gelu.cuh"

extern "C" __global__ void forward(float *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = gelu(x[i]); });
}

extern "C" __global__ void backward_and_recompute(float *grad, float *x, unsigned count) {
    each(count, [=](unsigned i) { gelu_backward(grad[i], x[i]); });
}
