#include "common.cuh"

/// What a row is to tell; `class_index` is [`NONE`] where it is nothing.
struct Target {
    unsigned class_index, other;
    float share;

    /// The share of one class: of both, if they are the same.
    __device__ double share_of(unsigned c) const {
        return (c == class_index ? 1.0 - double(share) : 0.0) + (c == other ? double(share) : 0.0);
    }
};

constexpr unsigned NONE = 0xffffffff;

/// Of each row the logarithm of the sum of `exp(logit)`, and its cross entropy; 0 without a target. A warp takes a row.
extern "C" __global__ void forward(double *log_sums, double *losses, const float *logits, const Target *targets,
                                   const float *weights, double weight_sum, double smoothing, unsigned rows,
                                   unsigned classes) {
    const unsigned at = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const unsigned row = min(at, rows - 1);
    logits += row * classes;
    float largest = -INFINITY;
    for (unsigned c = lane; c < classes; c += WARP) {
        largest = fmaxf(largest, logits[c]);
    }
    largest = warp_reduce(largest, Max());
    // Of nothing but minus infinities, or with an infinity, there is nothing to subtract.
    const double shift = fabsf(largest) < INFINITY ? largest : 0.0f;
    double powers = 0, sum = 0;
    for (unsigned c = lane; c < classes; c += WARP) {
        powers += exp(logits[c] - shift);
        sum += double(weights[c]) * logits[c];
    }
    powers = warp_reduce(powers, Sum());
    sum = warp_reduce(sum, Sum());
    if (at >= rows || lane > 0) {
        return;
    }
    const double log_sum = shift + log(powers);
    const Target target = targets[row];
    double loss = 0;
    if (target.class_index != NONE) {
        const double share = target.share;
        if (share != 1.0) {
            loss += weights[target.class_index] * (1.0 - share) * (log_sum - logits[target.class_index]);
        }
        if (share != 0.0) {
            loss += weights[target.other] * share * (log_sum - logits[target.other]);
        }
        if (smoothing != 0.0) {
            loss = (1.0 - smoothing) * loss + smoothing * (weight_sum * log_sum - sum) / classes;
        }
    }
    log_sums[row] = log_sum;
    losses[row] = loss;
}

/// What the probabilities, times what all classes together are asked for, are off the target, times `grad` over `divisor`.
extern "C" __global__ void backward(float *y, const float *logits, const double *log_sums, const Target *targets,
                                    const float *grad, const float *weights, double weight_sum, double smoothing,
                                    double divisor, unsigned classes, unsigned count) {
    const double scale = grad[0] / divisor;
    each(count, [=](unsigned i) {
        const unsigned row = i / classes, c = i % classes;
        const Target target = targets[row];
        if (target.class_index == NONE) {
            y[i] = 0.0f;
            return;
        }
        const double share = target.share, uniform = smoothing / classes;
        const double mixture = (1.0 - share) * weights[target.class_index] + share * weights[target.other];
        const double all = (1.0 - smoothing) * mixture + uniform * weight_sum;
        const double asked = weights[c] * ((1.0 - smoothing) * target.share_of(c) + uniform);
        y[i] = float((exp(logits[i] - log_sums[row]) * all - asked) * scale);
    });
}
