#include "common.cuh"

/// `gamma` and `drop_scale` may be null. `sample` is the number of values of one sample.
template <class T>
__device__ __forceinline__ void add_branch(float *sum, const T *branch, const float *x, const float *gamma,
                                           const float *drop_scale, unsigned channels, unsigned sample,
                                           unsigned count) {
    each(count, [=](unsigned i) {
        float own = branch[i];
        if (gamma) {
            own *= gamma[i % channels];
        }
        if (drop_scale) {
            own *= drop_scale[i / sample];
        }
        sum[i] = x[i] + own;
    });
}

#define KERNELS(T, SUFFIX)                                                                                        \
    extern "C" __global__ void add_branch_##SUFFIX(float *sum, const T *branch, const float *x,                   \
                                                   const float *gamma, const float *drop_scale,                   \
                                                   unsigned channels, unsigned sample, unsigned count) {          \
        add_branch(sum, branch, x, gamma, drop_scale, channels, sample, count);                                   \
    }                                                                                                             \
    extern "C" __global__ void scaled_grad_##SUFFIX(T *scaled, const float *grad, const float *drop_scale,        \
                                                    unsigned sample, unsigned count) {                            \
        each(count, [=](unsigned i) { scaled[i] = grad[i] * drop_scale[i / sample]; });                           \
    }

FOR_EACH_STORAGE(KERNELS)
