#include "common.cuh"

/// Of each patch the mean squared error, times its weight; a patch without one is not read. A warp takes a patch.
extern "C" __global__ void patch_errors(double *errors, const float *pred, const float *target, const float *removed,
                                        unsigned patches, unsigned width) {
    const unsigned patch = blockIdx.x * WARPS + threadIdx.x / WARP;
    const float weight = patch < patches ? removed[patch] : 0.0f;
    double sum = 0;
    if (weight != 0.0f) {
        for (unsigned i = patch * width + threadIdx.x % WARP; i < (patch + 1) * width; i += WARP) {
            const double difference = pred[i] - target[i];
            sum += difference * difference;
        }
    }
    sum = warp_reduce(sum, Sum());
    if (patch < patches && threadIdx.x % WARP == 0) {
        errors[patch] = weight == 0.0f ? 0.0 : sum / width * weight;
    }
}

/// `divisor` is the width of a patch times the sum of all weights.
extern "C" __global__ void masked_mse_grad(float *y, const float *pred, const float *target, const float *removed,
                                           const float *grad, double divisor, unsigned width, unsigned count) {
    const double scale = 2.0 * grad[0] / divisor;
    each(count, [=](unsigned i) {
        const float weight = removed[i / width];
        y[i] = weight == 0.0f ? 0.0f : (pred[i] - target[i]) * float(scale * weight);
    });
}
