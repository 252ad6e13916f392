#include "common.cuh"

/// Sums of `x - origin`, and of its squares, where the origin is the first row: the square of a large mean would swallow the variance.
extern "C" __global__ void sum_moments(Two<double> *partial, const float *x, unsigned rows, unsigned channels) {
    sum_columns(partial, rows, channels, [=](unsigned row, unsigned c) {
        const double offset = double(x[row * channels + c]) - double(x[c]);
        return Two<double>{offset, offset * offset};
    });
}

extern "C" __global__ void finish_moments(float *mean, float *var, const float *x, const Two<double> *partial,
                                          unsigned chunks, unsigned rows, unsigned channels) {
    each(channels, [=](unsigned c) {
        const Two<double> sum = sum_chunks(partial, chunks, channels, c);
        const double offset = sum.a / rows;
        mean[c] = float(double(x[c]) + offset);
        var[c] = float(max(sum.b / rows - offset * offset, 0.0));
    });
}

extern "C" __global__ void update_running(float *running, const float *batch, float factor, float momentum,
                                          unsigned channels) {
    each(channels, [=](unsigned c) { running[c] += momentum * (batch[c] * factor - running[c]); });
}

/// Weight and bias may be null.
extern "C" __global__ void forward(float *y, const float *x, const float *mean, const float *var, const float *weight,
                                   const float *bias, float eps, unsigned channels, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned c = i % channels;
        const float inverse_std = 1.0f / sqrtf(var[c] + eps), scale = weight ? inverse_std * weight[c] : inverse_std;
        y[i] = (x[i] - mean[c]) * scale + (bias ? bias[c] : 0.0f);
    });
}

/// Sums of `grad * (x - mean)`, and of `grad`.
extern "C" __global__ void sum_grads(Two<float> *partial, const float *grad, const float *x, const float *mean,
                                     unsigned rows, unsigned channels) {
    sum_columns(partial, rows, channels, [=](unsigned row, unsigned c) {
        const float g = grad[row * channels + c];
        return Two<float>{(x[row * channels + c] - mean[c]) * g, g};
    });
}

extern "C" __global__ void finish_grads(float *grad_weight, float *grad_bias, const Two<float> *partial,
                                        const float *var, float eps, unsigned chunks, unsigned channels) {
    each(channels, [=](unsigned c) {
        const Two<float> sum = sum_chunks(partial, chunks, channels, c);
        grad_weight[c] = sum.a * (1.0f / sqrtf(var[c] + eps));
        grad_bias[c] = sum.b;
    });
}

/// `rows` is 0 where the moments are not those of the batch, and the gradients of weight and bias may be null. The weight may be null.
extern "C" __global__ void backward_input(float *grad, const float *x, const float *mean, const float *var,
                                          const float *weight, const float *grad_weight, const float *grad_bias,
                                          float eps, unsigned rows, unsigned channels, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned c = i % channels;
        const float inverse_std = 1.0f / sqrtf(var[c] + eps), gain = weight ? inverse_std * weight[c] : inverse_std;
        float g = grad[i];
        if (rows > 0) {
            g = g - grad_bias[c] / rows - (x[i] - mean[c]) * (inverse_std * (grad_weight[c] / rows));
        }
        grad[i] = g * gain;
    });
}
