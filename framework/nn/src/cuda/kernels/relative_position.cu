#include "common.cuh"

/// The row of the table for a query and a key: by the offset between them on a grid of `rows` and `cols`.
__device__ __forceinline__ unsigned table_row(unsigned query, unsigned key, unsigned rows, unsigned cols) {
    const unsigned dy = query / cols + rows - 1 - key / cols, dx = query % cols + cols - 1 - key % cols;
    return dy * (2 * cols - 1) + dx;
}

extern "C" __global__ void expand(float *biases, const float *table, unsigned rows, unsigned cols, unsigned heads,
                                  unsigned count) {
    const unsigned tokens = rows * cols;
    each(count, [=](unsigned i) {
        const unsigned head = i / tokens / tokens, query = i / tokens % tokens, key = i % tokens;
        biases[i] = table[table_row(query, key, rows, cols) * heads + head];
    });
}

/// For each value of the table the sum over the queries that have a key at its offset.
extern "C" __global__ void grad_table(float *table, const float *grad, unsigned rows, unsigned cols, unsigned heads,
                                      unsigned count) {
    const unsigned tokens = rows * cols;
    each(count, [=](unsigned i) {
        const unsigned head = i % heads, offset = i / heads;
        const int dy = int(offset / (2 * cols - 1)) - int(rows - 1), dx = int(offset % (2 * cols - 1)) - int(cols - 1);
        float sum = 0;
        for (int y = max(dy, 0); y < int(rows) + min(dy, 0); ++y) {
            for (int x = max(dx, 0); x < int(cols) + min(dx, 0); ++x) {
                const unsigned query = y * cols + x, key = (y - dy) * cols + x - dx;
                sum += grad[(head * tokens + query) * tokens + key];
            }
        }
        table[i] = sum;
    });
}
