#include "common.cuh"

extern "C" __global__ void to_bf16(Bf16 *y, const float *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[i]; });
}

extern "C" __global__ void to_f32(float *y, const Bf16 *x, unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[i]; });
}
