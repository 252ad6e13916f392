#include "common.cuh"

/// The row of the table for a query and a key: by the offset between them on a grid of `rows` and `cols`. With a cls token before the
/// grid (`cls` is 1, else 0) the last three rows are for that as query, as key, and as both.
__device__ __forceinline__ unsigned table_row(unsigned query, unsigned key, unsigned rows, unsigned cols, unsigned cls) {
    if (cls && (!query || !key)) {
        return (2 * rows - 1) * (2 * cols - 1) + (query ? 1 : key ? 0 : 2);
    }
    query -= cls;
    key -= cls;
    const unsigned dy = query / cols + rows - 1 - key / cols, dx = query % cols + cols - 1 - key % cols;
    return dy * (2 * cols - 1) + dx;
}

extern "C" __global__ void expand(float *biases, const float *table, unsigned rows, unsigned cols, unsigned cls,
                                  unsigned heads, unsigned count) {
    const unsigned tokens = rows * cols + cls;
    each(count, [=](unsigned i) {
        const unsigned head = i / tokens / tokens, query = i / tokens % tokens, key = i % tokens;
        biases[i] = table[table_row(query, key, rows, cols, cls) * heads + head];
    });
}

/// For each value of the table the sum over the queries that have a key at its offset.
extern "C" __global__ void grad_table(float *table, const float *grad, unsigned rows, unsigned cols, unsigned cls,
                                      unsigned heads, unsigned count) {
    const unsigned tokens = rows * cols + cls, offsets = (2 * rows - 1) * (2 * cols - 1);
    each(count, [=](unsigned i) {
        const unsigned head = i % heads, offset = i / heads;
        if (offset >= offsets) {
            const float *of_head = grad + size_t(head) * tokens * tokens;
            float sum = offset == offsets + 2 ? of_head[0] : 0;
            for (unsigned other = 1; offset < offsets + 2 && other < tokens; ++other) {
                sum += of_head[offset == offsets ? other : other * tokens];
            }
            table[i] = sum;
            return;
        }
        const int dy = int(offset / (2 * cols - 1)) - int(rows - 1), dx = int(offset % (2 * cols - 1)) - int(cols - 1);
        float sum = 0;
        for (int y = max(dy, 0); y < int(rows) + min(dy, 0); ++y) {
            for (int x = max(dx, 0); x < int(cols) + min(dx, 0); ++x) {
                const unsigned query = y * cols + x + cls, key = (y - dy) * cols + x - dx + cls;
                sum += grad[(head * tokens + query) * tokens + key];
            }
        }
        table[i] = sum;
    });
}

/// A query of `[B, heads, tokens]`, as number `i`: its place in the grid, and where its values are in `[B, tokens, 3, heads, head_dim]`.
struct Query {
    unsigned row, col, start;
    __device__ Query(unsigned i, unsigned rows, unsigned cols, unsigned heads, unsigned head_dim) {
        const unsigned tokens = rows * cols, token = i % tokens, head = i / tokens % heads, image = i / tokens / heads;
        row = token / cols;
        col = token % cols;
        start = ((image * tokens + token) * 3 * heads + head) * head_dim;
    }
};

/// The products of queries with the embeddings of the offsets of all rows of keys, then of all columns, `[B, heads, tokens, rows + cols]`.
template <class T>
__device__ __forceinline__ void products(float *products, const T *qkv, const float *by_row, const float *by_col,
                                         unsigned rows, unsigned cols, unsigned heads, unsigned head_dim,
                                         unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned key = i % (rows + cols);
        const Query query(i / (rows + cols), rows, cols, heads, head_dim);
        const float *embedding = key < rows ? by_row + (query.row + rows - 1 - key) * head_dim
                                            : by_col + (query.col + cols - 1 - (key - rows)) * head_dim;
        float sum = 0;
        for (unsigned k = 0; k < head_dim; ++k) {
            sum += qkv[query.start + k] * embedding[k];
        }
        products[i] = sum;
    });
}

/// For every query and key the sum of the products with the key's row and column.
extern "C" __global__ void spread(float *biases, const float *products, unsigned rows, unsigned cols, unsigned count) {
    const unsigned tokens = rows * cols;
    each(count, [=](unsigned i) {
        const float *of_query = products + size_t(i / tokens) * (rows + cols);
        const unsigned key = i % tokens;
        biases[i] = of_query[key / cols] + of_query[rows + key % cols];
    });
}

/// The transpose of [`spread`]: the sum over the keys of a row, or of a column.
extern "C" __global__ void grad_products(float *products, const float *grad, unsigned rows, unsigned cols,
                                         unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned key = i % (rows + cols);
        const float *of_query = grad + size_t(i / (rows + cols)) * rows * cols;
        float sum = 0;
        if (key < rows) {
            for (unsigned col = 0; col < cols; ++col) {
                sum += of_query[key * cols + col];
            }
        } else {
            for (unsigned row = 0; row < rows; ++row) {
                sum += of_query[row * cols + key - rows];
            }
        }
        products[i] = sum;
    });
}

/// Adds to the gradients of the queries those that follow from the products.
template <class T>
__device__ __forceinline__ void grad_queries(T *grad_qkv, const float *products, const float *by_row,
                                             const float *by_col, unsigned rows, unsigned cols, unsigned heads,
                                             unsigned head_dim, unsigned count) {
    each(count, [=](unsigned i) {
        const unsigned k = i % head_dim;
        const Query query(i / head_dim, rows, cols, heads, head_dim);
        const float *of_query = products + size_t(i / head_dim) * (rows + cols);
        float sum = 0;
        for (unsigned row = 0; row < rows; ++row) {
            sum += of_query[row] * by_row[(query.row + rows - 1 - row) * head_dim + k];
        }
        for (unsigned col = 0; col < cols; ++col) {
            sum += of_query[rows + col] * by_col[(query.col + cols - 1 - col) * head_dim + k];
        }
        grad_qkv[query.start + k] = grad_qkv[query.start + k] + sum;
    });
}

/// The gradients of the embeddings of rows (`axis` 0) or of columns: for each the sum over the queries that have keys at its offset.
template <class T>
__device__ __forceinline__ void grad_embeddings(float *table, const float *products, const T *qkv, unsigned axis,
                                                unsigned rows, unsigned cols, unsigned batch, unsigned heads,
                                                unsigned head_dim, unsigned count) {
    const unsigned side = axis ? cols : rows;
    each(count, [=](unsigned i) {
        const unsigned offset = i / head_dim, k = i % head_dim;
        float sum = 0;
        for (unsigned at = 0; at < batch * heads * rows * cols; ++at) {
            const Query query(at, rows, cols, heads, head_dim);
            // Past the side, also where it would be negative, there is no key.
            const unsigned key = (axis ? query.col : query.row) + side - 1 - offset;
            if (key < side) {
                sum += products[size_t(at) * (rows + cols) + axis * rows + key] * qkv[query.start + k];
            }
        }
        table[i] = sum;
    });
}

#define KERNELS(T, SUFFIX)                                                                                             \
    extern "C" __global__ void products_##SUFFIX(float *sums, const T *qkv, const float *by_row, const float *by_col,  \
                                                 unsigned rows, unsigned cols, unsigned heads, unsigned head_dim,      \
                                                 unsigned count) {                                                     \
        products(sums, qkv, by_row, by_col, rows, cols, heads, head_dim, count);                                       \
    }                                                                                                                  \
    extern "C" __global__ void grad_queries_##SUFFIX(T *grad_qkv, const float *products, const float *by_row,          \
                                                     const float *by_col, unsigned rows, unsigned cols,                \
                                                     unsigned heads, unsigned head_dim, unsigned count) {              \
        grad_queries(grad_qkv, products, by_row, by_col, rows, cols, heads, head_dim, count);                          \
    }                                                                                                                  \
    extern "C" __global__ void grad_embeddings_##SUFFIX(float *table, const float *products, const T *qkv,             \
                                                        unsigned axis, unsigned rows, unsigned cols, unsigned batch,   \
                                                        unsigned heads, unsigned head_dim, unsigned count) {           \
        grad_embeddings(table, products, qkv, axis, rows, cols, batch, heads, head_dim, count);                        \
    }

FOR_EACH_STORAGE(KERNELS)
