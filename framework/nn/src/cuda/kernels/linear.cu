#include "common.cuh"
#include "gelu.cuh"


/// The bias may be null.
extern "C" __global__ void add_residual(float *y, const float *bias, const float *residual, unsigned columns,
                                        unsigned count) {
    each(count, [=](unsigned i) {
        const float sum = y[i] + residual[i];
        y[i] = bias ? sum + bias[i % columns] : sum;
    });
}

/// Adds the bias, which may be null, and writes the activations: of what is stored, from which they are computed again.
template <class T>
__device__ __forceinline__ void add_bias_gelu(T *y, T *activations, const float *bias, unsigned columns,
                                              unsigned count) {
    each(count, [=](unsigned i) {
        if (bias) {
            y[i] = y[i] + bias[i % columns];
        }
        activations[i] = gelu(y[i]);
    });
}

#define KERNELS(T, SUFFIX)                                                                                        \
    extern "C" __global__ void add_bias_##SUFFIX(T *y, const float *bias, unsigned columns, unsigned count) {     \
        each(count, [=](unsigned i) { y[i] = y[i] + bias[i % columns]; });                                        \
    }                                                                                                             \
    extern "C" __global__ void add_bias_gelu_##SUFFIX(T *y, T *activations, const float *bias, unsigned columns,  \
                                                      unsigned count) {                                           \
        add_bias_gelu(y, activations, bias, columns, count);                                                      \
    }

FOR_EACH_STORAGE(KERNELS)
