#include "common.cuh"

/// Sums of `[rows, columns]` over each of the grid's chunks of rows: an image's tokens.
extern "C" __global__ void sum_tokens(double *sums, const float *x, unsigned rows, unsigned columns) {
    sum_columns(sums, rows, columns, [=](unsigned row, unsigned column) { return double(x[row * columns + column]); });
}

extern "C" __global__ void divide(float *y, const double *sums, unsigned tokens, unsigned count) {
    each(count, [=](unsigned i) { y[i] = float(sums[i] / tokens); });
}

extern "C" __global__ void mean_tokens_grad(float *y, const float *grad, unsigned tokens, unsigned channels,
                                            unsigned count) {
    each(count, [=](unsigned i) {
        y[i] = grad[i / channels / tokens * channels + i % channels] / tokens;
    });
}
