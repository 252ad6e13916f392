#include "images.cuh"

/// The values themselves.
#define NORMALIZED(Pixel, pixel)                                                                                          \
    extern "C" __global__ void normalized_##pixel(float *y, const Pixel *pixels, const float *tables, unsigned channels,   \
                                                  unsigned height, unsigned width, unsigned count) {                      \
        const Images<Pixel> images{pixels, tables, channels, height, width};                                              \
        each(count, [=](unsigned i) {                                                                                     \
            y[i] = images(i / (width * height * channels), i / (width * height) % channels, i / width % height, i % width); \
        });                                                                                                               \
    }
FOR_EACH_PIXEL(NORMALIZED)
