#include "images.cuh"

/// Targets that lie in memory, `[patches, width]`.
struct Rows {
    const float *values;
    unsigned width;
    __device__ __forceinline__ float operator()(unsigned patch, unsigned i) const { return values[patch * width + i]; }
};

/// The patches of `side x side` pixels of images, the channel last; those of each image `masks` times.
template <class Pixel>
struct Patches {
    Images<Pixel> images;
    unsigned side, masks;
    __device__ __forceinline__ float operator()(unsigned patch, unsigned i) const {
        const unsigned cols = images.width / side, of_image = images.height / side * cols;
        const unsigned position = i / images.channels, id = patch % of_image;
        return images(patch / of_image / masks, i % images.channels, id / cols * side + position / side,
                      id % cols * side + position % side);
    }
};

/// Mean and reciprocal deviation of a patch.
struct Statistics {
    double mean, scale;
    __device__ __forceinline__ float normalized(float value) const { return float((value - mean) * scale); }
};

/// Of each patch the mean squared error, times its weight; a patch without one is not read. A warp takes a patch. Where there is memory
/// for statistics, targets are normalised by them.
template <class Target>
__device__ void patch_errors(double *errors, Statistics *statistics, const float *pred, Target target, const float *removed,
                             unsigned patches, unsigned width) {
    const unsigned patch = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const float weight = patch < patches ? removed[patch] : 0.0f;
    const unsigned count = weight != 0.0f ? width : 0;
    Statistics own{0.0, 1.0};
    if (statistics) {
        double sum = 0, squares = 0;
        for (unsigned i = lane; i < count; i += WARP) {
            sum += target(patch, i);
        }
        own.mean = warp_reduce(sum, Sum()) / width;
        for (unsigned i = lane; i < count; i += WARP) {
            const double difference = target(patch, i) - own.mean;
            squares += difference * difference;
        }
        own.scale = 1.0 / sqrt(warp_reduce(squares, Sum()) / (width - 1.0) + 1e-6);
    }
    double sum = 0;
    for (unsigned i = lane; i < count; i += WARP) {
        const float value = target(patch, i);
        const double difference = pred[patch * width + i] - (statistics ? own.normalized(value) : value);
        sum += difference * difference;
    }
    sum = warp_reduce(sum, Sum());
    if (patch < patches && lane == 0) {
        errors[patch] = weight == 0.0f ? 0.0 : sum / width * weight;
        if (statistics) {
            statistics[patch] = own;
        }
    }
}

/// `divisor` is the width of a patch times the sum of all weights.
template <class Target>
__device__ void masked_mse_grad(float *y, const Statistics *statistics, const float *pred, Target target, const float *removed,
                                const float *grad, double divisor, unsigned width, unsigned count) {
    const double scale = 2.0 * grad[0] / divisor;
    each(count, [=](unsigned i) {
        const unsigned patch = i / width;
        const float weight = removed[patch];
        if (weight == 0.0f) {
            y[i] = 0.0f;
            return;
        }
        const float value = target(patch, i % width);
        y[i] = (pred[i] - (statistics ? statistics[patch].normalized(value) : value)) * float(scale * weight);
    });
}

extern "C" __global__ void patch_errors_rows(double *errors, Statistics *statistics, const float *pred, const float *target,
                                             const float *removed, unsigned patches, unsigned width) {
    patch_errors(errors, statistics, pred, Rows{target, width}, removed, patches, width);
}

extern "C" __global__ void masked_mse_grad_rows(float *y, const Statistics *statistics, const float *pred, const float *target,
                                                const float *removed, const float *grad, double divisor, unsigned width,
                                                unsigned count) {
    masked_mse_grad(y, statistics, pred, Rows{target, width}, removed, grad, divisor, width, count);
}

#define OF_PIXELS(Pixel, pixel)                                                                                             \
    extern "C" __global__ void patch_errors_##pixel(double *errors, Statistics *statistics, const float *pred,              \
                                                    const Pixel *pixels, const float *tables, unsigned channels,            \
                                                    unsigned height, unsigned image_width, unsigned side, unsigned masks,   \
                                                    const float *removed, unsigned patches, unsigned width) {               \
        const Patches<Pixel> target{{pixels, tables, channels, height, image_width}, side, masks};                          \
        patch_errors(errors, statistics, pred, target, removed, patches, width);                                            \
    }                                                                                                                       \
    extern "C" __global__ void masked_mse_grad_##pixel(                                                                     \
        float *y, const Statistics *statistics, const float *pred, const Pixel *pixels, const float *tables,                \
        unsigned channels, unsigned height, unsigned image_width, unsigned side, unsigned masks, const float *removed,      \
        const float *grad, double divisor, unsigned width, unsigned count) {                                                \
        const Patches<Pixel> target{{pixels, tables, channels, height, image_width}, side, masks};                          \
        masked_mse_grad(y, statistics, pred, target, removed, grad, divisor, width, count);                                 \
    }
FOR_EACH_PIXEL(OF_PIXELS)
