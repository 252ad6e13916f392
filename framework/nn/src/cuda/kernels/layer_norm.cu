#include "common.cuh"

/// A row of `channels` values for each warp; the last warps of a grid may have none, and take the last row without writing.
struct Row {
    unsigned row, start;
    bool own;
    __device__ Row(unsigned rows, unsigned channels) {
        const unsigned at = blockIdx.x * WARPS + threadIdx.x / WARP;
        own = at < rows;
        row = own ? at : rows - 1;
        start = row * channels;
    }
};

/// `statistics` is `[rows, 2]`: the mean, and `1 / sqrt(variance + eps)`.
extern "C" __global__ void forward(float *y, float *statistics, const float *x, const float *weight, const float *bias,
                                   float eps, unsigned rows, unsigned channels) {
    const Row row(rows, channels);
    const unsigned lane = threadIdx.x % WARP;
    x += row.start;
    float sum = 0;
    for (unsigned c = lane; c < channels; c += WARP) {
        sum += x[c];
    }
    const float mean = warp_reduce(sum, Sum()) / channels;
    float squares = 0;
    for (unsigned c = lane; c < channels; c += WARP) {
        squares += (x[c] - mean) * (x[c] - mean);
    }
    const float scale = 1.0f / sqrtf(warp_reduce(squares, Sum()) / channels + eps);
    if (!row.own) {
        return;
    }
    for (unsigned c = lane; c < channels; c += WARP) {
        y[row.start + c] = (x[c] - mean) * scale * weight[c] + bias[c];
    }
    if (lane == 0) {
        statistics[2 * row.row] = mean;
        statistics[2 * row.row + 1] = scale;
    }
}

extern "C" __global__ void recompute(float *y, const float *statistics, const float *x, const float *weight,
                                 const float *bias, unsigned channels, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = i / channels, c = i % channels;
        y[i] = (x[i] - statistics[2 * row]) * statistics[2 * row + 1] * weight[c] + bias[c];
    });
}

/// Adds `scale * (h - mean(h) - n * mean(h * n))`, where `n` is the normalised row and `h` is `grad * weight`.
extern "C" __global__ void backward_input(float *grad_x, const float *grad, const float *x, const float *statistics,
                                          const float *weight, unsigned rows, unsigned channels) {
    const Row row(rows, channels);
    const unsigned lane = threadIdx.x % WARP;
    x += row.start;
    grad += row.start;
    const float mean = statistics[2 * row.row], scale = statistics[2 * row.row + 1];
    float sum_h = 0, sum_hn = 0;
    for (unsigned c = lane; c < channels; c += WARP) {
        const float h = grad[c] * weight[c];
        sum_h += h;
        sum_hn += h * ((x[c] - mean) * scale);
    }
    const float mean_h = warp_reduce(sum_h, Sum()) / channels, mean_hn = warp_reduce(sum_hn, Sum()) / channels;
    if (!row.own) {
        return;
    }
    for (unsigned c = lane; c < channels; c += WARP) {
        grad_x[row.start + c] += scale * (grad[c] * weight[c] - mean_h - (x[c] - mean) * scale * mean_hn);
    }
}

/// Partial sums of the gradients of weight and bias.
extern "C" __global__ void backward_params(Two<float> *partial, const float *grad, const float *x,
                                           const float *statistics, unsigned rows, unsigned channels) {
    sum_columns(partial, rows, channels, [=](unsigned row, unsigned c) {
        const float g = grad[row * channels + c];
        return Two<float>{g * ((x[row * channels + c] - statistics[2 * row]) * statistics[2 * row + 1]), g};
    });
}

extern "C" __global__ void finish_params(float *grad_weight, float *grad_bias, const Two<float> *partial,
                                         unsigned chunks, unsigned channels) {
    each(channels, [=](unsigned c) {
        const Two<float> sum = sum_chunks(partial, chunks, channels, c);
        grad_weight[c] = sum.a;
        grad_bias[c] = sum.b;
    });
}
