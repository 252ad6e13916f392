#include "common.cuh"

/// Copies rows of `channels` values into rows of `width`, from column `start` on.
extern "C" __global__ void join(float *rows, const float *part, unsigned width, unsigned start, unsigned channels,
                                unsigned count) {
    each(count, [=](unsigned i) { rows[i / channels * width + start + i % channels] = part[i]; });
}

/// And back.
extern "C" __global__ void part(float *part, const float *rows, unsigned width, unsigned start, unsigned channels,
                                unsigned count) {
    each(count, [=](unsigned i) { part[i] = rows[i / channels * width + start + i % channels]; });
}
