#include "common.cuh"

/// Adds `addend` and to every row the bias; each may be null.
#define KERNELS(T, SUFFIX)                                                                                        \
    extern "C" __global__ void add_to_rows_##SUFFIX(T *y, const float *addend, const float *bias,                 \
                                                    unsigned columns, unsigned count) {                           \
        each(count, [=](unsigned i) {                                                                             \
            const float sum = addend ? y[i] + addend[i] : float(y[i]);                                            \
            y[i] = bias ? sum + bias[i % columns] : sum;                                                          \
        });                                                                                                       \
    }

FOR_EACH_STORAGE(KERNELS)
