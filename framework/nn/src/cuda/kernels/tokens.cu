#include "common.cuh"

extern "C" __global__ void gather_rows(float *output, const float *rows, const float *extra, const unsigned *index,
                                       unsigned count_rows, unsigned width, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = index[i / width], column = i % width;
        output[i] = row < count_rows ? rows[row * width + column] : extra[column];
    });
}

extern "C" __global__ void add_rows(float *x, const float *table, const unsigned *index, unsigned count_rows,
                                    unsigned width, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = index[i / width];
        if (row < count_rows) {
            x[i] += table[row * width + i % width];
        }
    });
}

/// Adds to `sums` what they are if `add` is 1, and nothing if it is 0. The places of row `r` are those from `starts[r]` on.
extern "C" __global__ void scatter_rows(float *sums, const float *grad, const unsigned *starts, const unsigned *places,
                                        unsigned width, unsigned add, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned row = i / width, column = i % width;
        float sum = add ? sums[i] : 0.0f;
        for (unsigned at = starts[row]; at < starts[row + 1]; ++at) {
            sum += grad[places[at] * width + column];
        }
        sums[i] = sum;
    });
}

extern "C" __global__ void scatter_row(float *partial, const float *grad, const unsigned *places, unsigned count,
                                       unsigned width) {
    sum_columns(partial, count, width, [=](unsigned at, unsigned column) { return grad[places[at] * width + column]; });
}
