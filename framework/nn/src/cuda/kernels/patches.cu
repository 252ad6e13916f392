#include "images.cuh"

/// Where a value of patches `[cell * cell, channels]` lies when groups of `k * k` positions are rows: `[groups, channels, k * k]`.
__device__ __forceinline__ unsigned merged(unsigned i, unsigned channels, unsigned cell, unsigned k) {
    const unsigned channel = i % channels, position = i / channels % (cell * cell), patch = i / channels / (cell * cell);
    const unsigned row = position / cell, col = position % cell;
    const unsigned group = row / k * (cell / k) + col / k, tap = row % k * k + col % k;
    return ((patch * (cell / k) * (cell / k) + group) * channels + channel) * k * k + tap;
}

extern "C" __global__ void merge_cells(float *y, const float *x, unsigned channels, unsigned cell, unsigned k,
                                       unsigned count) {
    each(count, [=](unsigned i) { y[merged(i, channels, cell, k)] = x[i]; });
}

extern "C" __global__ void split_cells(float *y, const float *x, unsigned channels, unsigned cell, unsigned k,
                                       unsigned count) {
    each(count, [=](unsigned i) { y[i] = x[merged(i, channels, cell, k)]; });
}

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the patches `ids`, `per_image` of each image.
template <class Pixel>
__device__ void windows(float *y, Images<Pixel> images, const unsigned *ids, unsigned cols, unsigned cell, unsigned per_image,
                        unsigned k, unsigned count) {
    const unsigned channels = images.channels;
    each(count, [=](unsigned i) {
        const unsigned tap = i % (k * k), channel = i / (k * k) % channels, window = i / (k * k * channels);
        const unsigned position = window % (cell * cell), patch = window / (cell * cell), id = ids[patch];
        const unsigned row = (id / cols * cell + position / cell) * k + tap / k;
        const unsigned col = (id % cols * cell + position % cell) * k + tap % k;
        y[i] = images(patch / per_image, channel, row, col);
    });
}

#define WINDOWS(Pixel, pixel)                                                                                           \
    extern "C" __global__ void windows_##pixel(float *y, const Pixel *pixels, const float *tables, unsigned channels,    \
                                               unsigned height, unsigned width, const unsigned *ids, unsigned cols,     \
                                               unsigned cell, unsigned per_image, unsigned k, unsigned count) {         \
        windows(y, Images<Pixel>{pixels, tables, channels, height, width}, ids, cols, cell, per_image, k, count);       \
    }
FOR_EACH_PIXEL(WINDOWS)
