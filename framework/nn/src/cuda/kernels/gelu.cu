#include "common.cuh"
#include "gelu.cuh"

#define KERNELS(T, SUFFIX)                                                                           \
    extern "C" __global__ void forward_##SUFFIX(T *y, const T *x, unsigned count) {                  \
        each(count, [=](unsigned i) { y[i] = gelu(x[i]); });                                         \
    }                                                                                                \
    extern "C" __global__ void backward_and_recompute_##SUFFIX(T *grad, T *x, unsigned count) {      \
        each(count, [=](unsigned i) { gelu_backward(grad[i], x[i]); });                              \
    }

FOR_EACH_STORAGE(KERNELS)
