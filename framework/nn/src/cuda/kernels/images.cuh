// Images as they were uploaded.
#pragma once

#include "common.cuh"

/// Normalised values of images `[B, channels, height, width]`.
template <class Pixel>
struct Images;

/// `[B, height, width, channels]`, whose values stand for those of a table of each channel.
template <>
struct Images<unsigned char> {
    const unsigned char *pixels;
    const float *tables;
    unsigned channels, height, width;
    __device__ __forceinline__ float operator()(unsigned image, unsigned channel, unsigned row, unsigned col) const {
        return tables[channel * 256 + pixels[((image * height + row) * width + col) * channels + channel]];
    }
};

/// As they are.
template <>
struct Images<float> {
    const float *pixels;
    const float *tables; // None.
    unsigned channels, height, width;
    __device__ __forceinline__ float operator()(unsigned image, unsigned channel, unsigned row, unsigned col) const {
        return pixels[((image * channels + channel) * height + row) * width + col];
    }
};

/// Declares a kernel for images of bytes, and for such of floats: `KERNEL(type, suffix of its name)`.
#define FOR_EACH_PIXEL(KERNEL) KERNEL(unsigned char, bytes) KERNEL(float, floats)
