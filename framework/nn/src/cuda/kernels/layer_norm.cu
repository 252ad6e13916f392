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
template <class Y>
__device__ __forceinline__ void normalise(Y *y, float *statistics, const float *x, const float *weight,
                                          const float *bias, float eps, unsigned rows, unsigned channels) {
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

template <class Y>
__device__ __forceinline__ void recompute(Y *y, const float *statistics, const float *x, const float *weight,
                                          const float *bias, unsigned channels, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = i / channels, c = i % channels;
        y[i] = (x[i] - statistics[2 * row]) * statistics[2 * row + 1] * weight[c] + bias[c];
    });
}

/// Adds to a gradient, and writes the sum to `rounded`, which may be null.
__device__ __forceinline__ void add_grad(float *grad_x, Bf16 *rounded, unsigned at, float grad) {
    const float sum = grad_x[at] + grad;
    grad_x[at] = sum;
    if (rounded) {
        rounded[at] = sum;
    }
}

/// Adds `scale * (h - mean(h) - n * mean(h * n))`, where `n` is the normalised row and `h` is `grad * weight`.
template <class G>
__device__ __forceinline__ void backward_input(float *grad_x, Bf16 *rounded, const G *grad, const float *x,
                                               const float *statistics, const float *weight, unsigned rows,
                                               unsigned channels) {
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
        const float own = scale * (grad[c] * weight[c] - mean_h - (x[c] - mean) * scale * mean_hn);
        add_grad(grad_x, rounded, row.start + c, own);
    }
}

/// Partial sums of the gradients of weight and bias.
template <class G>
__device__ __forceinline__ void backward_params(Two<float> *partial, const G *grad, const float *x,
                                                const float *statistics, unsigned rows, unsigned channels) {
    sum_columns(partial, rows, channels, [=](unsigned row, unsigned c) {
        const float g = grad[row * channels + c];
        return Two<float>{g * ((x[row * channels + c] - statistics[2 * row]) * statistics[2 * row + 1]), g};
    });
}

/// Where the gradients of weight and bias go (`put_sum`).
struct ParamGrads {
    float *weight, *bias;
    unsigned add_weight, add_bias;
    __device__ __forceinline__ void put(unsigned c, Two<float> sum) const {
        put_sum(weight, c, sum.a, add_weight);
        put_sum(bias, c, sum.b, add_bias);
    }
};

extern "C" __global__ void finish_params(float *grad_weight, float *grad_bias, unsigned add_weight, unsigned add_bias,
                                         const Two<float> *partial, unsigned chunks, unsigned channels) {
    const ParamGrads grads = {grad_weight, grad_bias, add_weight, add_bias};
    each(channels, [=](unsigned c) { grads.put(c, sum_chunks(partial, chunks, channels, c)); });
}

/// All of the above with one reading of the rows, for at most `VALUES * WARP` channels: a lane holds VALUES of a row. Partial sums are
/// those of a block's rows, `[blocks, channels]`, and behind them those of groups of blocks (`sum_blocks`).
template <unsigned VALUES, class G>
__device__ __forceinline__ void backward(float *grad_x, Bf16 *rounded, ParamGrads grads, Two<float> *partial,
                                         unsigned *counters, const G *grad, const float *x, const float *statistics,
                                         const float *weight, unsigned rows, unsigned channels) {
    __shared__ Two<float> totals[THREADS];
    const unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const unsigned length = (rows + gridDim.x - 1) / gridDim.x, start = blockIdx.x * length;
    const unsigned end = min(start + length, rows);
    Two<float> sums[VALUES] = {};
    for (unsigned first = start; first < end; first += WARPS) {
        const bool own = first + warp < end;
        const unsigned row = own ? first + warp : end - 1, from = row * channels;
        const float mean = statistics[2 * row], scale = statistics[2 * row + 1];
        float h[VALUES], n[VALUES], sum_h = 0, sum_hn = 0;
#pragma unroll
        for (unsigned v = 0; v < VALUES; ++v) {
            const unsigned c = lane + v * WARP;
            const bool there = c < channels;
            const float g = there ? float(grad[from + c]) : 0.0f;
            n[v] = there ? (x[from + c] - mean) * scale : 0.0f;
            h[v] = there ? g * weight[c] : 0.0f;
            sum_h += h[v];
            sum_hn += h[v] * n[v];
            if (own) {
                sums[v] += Two<float>{g * n[v], g};
            }
        }
        const float mean_h = warp_reduce(sum_h, Sum()) / channels, mean_hn = warp_reduce(sum_hn, Sum()) / channels;
#pragma unroll
        for (unsigned v = 0; v < VALUES; ++v) {
            const unsigned c = lane + v * WARP;
            if (own && c < channels) {
                add_grad(grad_x, rounded, from + c, scale * (h[v] - mean_h - n[v] * mean_hn));
            }
        }
    }
#pragma unroll
    for (unsigned v = 0; v < VALUES; ++v) {
        const unsigned c = lane + v * WARP;
        __syncthreads();
        totals[threadIdx.x] = sums[v];
        __syncthreads();
        if (warp == 0 && c < channels) {
            Two<float> sum = totals[lane];
            for (unsigned other = 1; other < WARPS; ++other) {
                sum += totals[other * WARP + lane];
            }
            partial[blockIdx.x * channels + c] = sum;
        }
    }
    Two<float> *groups = partial + gridDim.x * channels;
    sum_blocks(partial, groups, counters, channels, [=](unsigned c, Two<float> sum) { grads.put(c, sum); });
}

#define BACKWARD(VALUES, T, SUFFIX)                                                                                    \
    extern "C" __global__ void backward_##VALUES##_##SUFFIX(                                                           \
        float *grad_x, Bf16 *rounded, float *grad_weight, float *grad_bias, unsigned add_weight, unsigned add_bias,    \
        Two<float> *partial, unsigned *counters, const T *grad, const float *x, const float *statistics,               \
        const float *weight, unsigned rows, unsigned channels) {                                                       \
        const ParamGrads grads = {grad_weight, grad_bias, add_weight, add_bias};                                       \
        backward<VALUES>(grad_x, rounded, grads, partial, counters, grad, x, statistics, weight, rows, channels);      \
    }

#define KERNELS(T, SUFFIX)                                                                                             \
    extern "C" __global__ void forward_##SUFFIX(T *y, float *statistics, const float *x, const float *weight,          \
                                                const float *bias, float eps, unsigned rows, unsigned channels) {      \
        normalise(y, statistics, x, weight, bias, eps, rows, channels);                                                \
    }                                                                                                                  \
    extern "C" __global__ void recompute_##SUFFIX(T *y, const float *statistics, const float *x, const float *weight,  \
                                                  const float *bias, unsigned channels, unsigned count) {              \
        recompute(y, statistics, x, weight, bias, channels, count);                                                    \
    }                                                                                                                  \
    extern "C" __global__ void backward_input_##SUFFIX(float *grad_x, Bf16 *rounded, const T *grad,                    \
                                                       const float *x, const float *statistics,                        \
                                                       const float *weight, unsigned rows, unsigned channels) {        \
        backward_input(grad_x, rounded, grad, x, statistics, weight, rows, channels);                                  \
    }                                                                                                                  \
    extern "C" __global__ void backward_params_##SUFFIX(Two<float> *partial, const T *grad, const float *x,            \
                                                        const float *statistics, unsigned rows, unsigned channels) {   \
        backward_params(partial, grad, x, statistics, rows, channels);                                                 \
    }                                                                                                                  \
    BACKWARD(8, T, SUFFIX)                                                                                             \
    BACKWARD(16, T, SUFFIX)                                                                                            \
    BACKWARD(24, T, SUFFIX)                                                                                            \
    BACKWARD(32, T, SUFFIX)

FOR_EACH_STORAGE(KERNELS)
