#include "common.cuh"

/// `[N, outputs, width]` from `[N, inputs, width]`: of each output the sum over its inputs, which lie from `starts[output]` on.
extern "C" __global__ void apply(float *y, const float *x, const unsigned *starts, const unsigned *sources,
                                 const float *weights, unsigned inputs, unsigned outputs, unsigned width,
                                 unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned at = i % width, output = i / width % outputs, n = i / width / outputs;
        float sum = 0;
        for (unsigned tap = starts[output]; tap < starts[output + 1]; ++tap) {
            sum += weights[tap] * x[(n * inputs + sources[tap]) * width + at];
        }
        y[i] = sum;
    });
}
