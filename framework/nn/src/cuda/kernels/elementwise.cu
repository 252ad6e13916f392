#include "common.cuh"

extern "C" __global__ void add_assign(float *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] += x[i]; });
}

extern "C" __global__ void mul_assign(float *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] *= x[i]; });
}

extern "C" __global__ void scale(float *y, float factor, unsigned count) {
    each(count, [=](unsigned i) { y[i] *= factor; });
}

extern "C" __global__ void scale_parts(float *y, const float *factors, unsigned part, unsigned count) {
    each(count, [=](unsigned i) { y[i] *= factors[i / part]; });
}

/// `y` is `[B, image / channels, channels]`.
extern "C" __global__ void scale_channels(float *y, const float *factors, unsigned image, unsigned channels,
                                          unsigned count) {
    each(count, [=](unsigned i) { y[i] *= factors[i / image * channels + i % channels]; });
}
