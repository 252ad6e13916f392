#include "common.cuh"

constexpr unsigned BINARY_CROSS_ENTROPY = 0;

/// Of each target the loss of its value: of a logit, or the distance, rounded off below `beta`.
extern "C" __global__ void pointwise_loss(double *losses, const float *x, const unsigned *indices, const float *targets,
                                          unsigned kind, float beta, unsigned count) {
    each(count, [=](unsigned i) {
        const double value = x[indices[i]], target = targets[i];
        if (kind == BINARY_CROSS_ENTROPY) {
            losses[i] = fmax(value, 0.0) - value * target + log1p(exp(-fabs(value)));
        } else {
            const double distance = fabs(value - target);
            losses[i] = distance < beta ? 0.5 * distance * distance / beta : distance - 0.5 * beta;
        }
    });
}

/// The gradient is zero where there is no target, before.
extern "C" __global__ void pointwise_loss_grad(float *grad_x, const float *x, const unsigned *indices, const float *targets,
                                               const float *grad, unsigned kind, float beta, double normalizer,
                                               unsigned count) {
    const double scale = grad[0] / normalizer;
    each(count, [=](unsigned i) {
        const double value = x[indices[i]], target = targets[i], difference = value - target;
        double derivative;
        if (kind == BINARY_CROSS_ENTROPY) {
            derivative = 1.0 / (1.0 + exp(-value)) - target;
        } else if (fabs(difference) < beta) {
            derivative = difference / beta;
        } else {
            derivative = difference > 0.0 ? 1.0 : difference < 0.0 ? -1.0 : difference;
        }
        grad_x[indices[i]] = float(derivative * scale);
    });
}
