// Self-attention, as FlashAttention (Dao et al. 2022): a block owns a tile of queries or keys of one head of one image and goes through
// the tiles of the other. Scores exist for a pair of tiles only; they are in base two, for powers of two are cheaper than those of e.
//
// The threads of a block are a square of SIDE x SIDE. Of a product `[M, N]` a thread has `M / SIDE` rows and `N / SIDE` columns, SIDE
// apart from each other.
#include "attention.cuh"

constexpr unsigned SIDE = 16;
static_assert(SIDE * SIDE == THREADS, "the square is the block");

__device__ __forceinline__ unsigned own_row() {
    return threadIdx.x / SIDE;
}
__device__ __forceinline__ unsigned own_column() {
    return threadIdx.x % SIDE;
}

/// A tile of ROWS tokens of DIM values in shared memory; a value more keeps the rows on different banks.
template <unsigned ROWS, unsigned DIM>
struct Tile {
    float values[ROWS][DIM + 1];

    /// Loads tokens from `from` on, `stride` apart; zeros behind the last token and the last value.
    template <class T>
    __device__ void load(const T *tokens, unsigned stride, unsigned from, Dims dims) {
        for (unsigned i = threadIdx.x; i < ROWS * DIM; i += THREADS) {
            const unsigned row = i / DIM, column = i % DIM;
            const bool inside = from + row < dims.tokens && column < dims.head_dim;
            values[row][column] = inside ? float(tokens[(from + row) * stride + column]) : 0.0f;
        }
    }
};

/// Where a value of a thread's part of a product is: in the product, and in the part.
struct At {
    unsigned row, column, i, j;
};

/// A thread's part of a product `[M, N]`.
template <unsigned M, unsigned N>
struct Part {
    static constexpr unsigned ROWS = M / SIDE, COLUMNS = N / SIDE;
    float values[ROWS][COLUMNS];

    __device__ Part() {
        each([](At, float &value) { value = 0; });
    }

    /// Calls `body(at, value)` for all of the part.
    template <class Body>
    __device__ __forceinline__ void each(Body body) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; ++j) {
                body(At{own_row() + i * SIDE, own_column() + j * SIDE, i, j}, values[i][j]);
            }
        }
    }

    /// Adds `a(row, k) * b(k, column)` for all `k < DEPTH`.
    template <unsigned DEPTH, class A, class B>
    __device__ __forceinline__ void add_product(A a, B b) {
#pragma unroll 8
        for (unsigned k = 0; k < DEPTH; ++k) {
            float left[ROWS], right[COLUMNS];
#pragma unroll
            for (unsigned i = 0; i < ROWS; ++i) {
                left[i] = a(own_row() + i * SIDE, k);
            }
#pragma unroll
            for (unsigned j = 0; j < COLUMNS; ++j) {
                right[j] = b(k, own_column() + j * SIDE);
            }
#pragma unroll
            for (unsigned i = 0; i < ROWS; ++i) {
#pragma unroll
                for (unsigned j = 0; j < COLUMNS; ++j) {
                    values[i][j] += left[i] * right[j];
                }
            }
        }
    }

    /// Adds `a b^T`, of tiles `[M, DIM]` and `[N, DIM]`.
    template <unsigned DIM>
    __device__ __forceinline__ void add_product_t(const Tile<M, DIM> &a, const Tile<N, DIM> &b) {
        add_product<DIM>([&](unsigned row, unsigned k) { return a.values[row][k]; },
                         [&](unsigned k, unsigned column) { return b.values[column][k]; });
    }

    /// Writes the part where it belongs in a tile.
    __device__ __forceinline__ void store(Tile<M, N> &tile) {
        each([&](At at, float value) { tile.values[at.row][at.column] = value; });
    }
};

/// Writes rows of `[tokens, head_dim]`, `stride` apart.
template <unsigned M, unsigned DIM, class T>
__device__ __forceinline__ void write_rows(T *tokens, unsigned stride, unsigned from, Dims dims, Part<M, DIM> &part) {
    part.each([=](At at, float value) {
        if (from + at.row < dims.tokens && at.column < dims.head_dim) {
            tokens[(from + at.row) * stride + at.column] = value;
        }
    });
}

/// From `q k^T` to scores.
template <unsigned M, unsigned N>
__device__ __forceinline__ void finish_scores(Part<M, N> &scores, const float *bias, float scale, unsigned from_query,
                                              unsigned from_key, unsigned tokens) {
    scores.each([=](At at, float &score) {
        score = score_of(score, bias, scale, from_query + at.row, from_key + at.column, tokens);
    });
}

/// Replaces scores by probabilities; `normaliser(at)` is that of a row of the tile.
template <unsigned M, unsigned N, class Normaliser>
__device__ __forceinline__ void normalise(Part<M, N> &scores, Normaliser normaliser) {
    scores.each([=](At at, float &score) { score = exp2f(score - normaliser(at)); });
}

/// The output, and the binary logarithms of the normalisers `[B, heads, tokens]`.
template <unsigned DIM, unsigned QUERIES, unsigned KEYS, class T>
__device__ __forceinline__ void forward(T *output, float *normalisers, const T *qkv, const float *bias, float scale,
                                        Dims dims) {
    __shared__ Tile<QUERIES, DIM> queries;
    __shared__ Tile<KEYS, DIM> keys; // Then values.
    __shared__ Tile<QUERIES, KEYS> probabilities;
    const Place place(dims, QUERIES);
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens;
    bias = place.bias(bias, dims);
    queries.load(qkv + place.start(dims, 3, 0), 3 * width, place.from, dims);

    Part<QUERIES, DIM> sums;
    constexpr unsigned ROWS = QUERIES / SIDE;
    float largest[ROWS], total[ROWS];
#pragma unroll
    for (unsigned i = 0; i < ROWS; ++i) {
        largest[i] = -INFINITY;
        total[i] = 0;
    }
    for (unsigned from = 0; from < tokens; from += KEYS) {
        __syncthreads();
        keys.load(qkv + place.start(dims, 3, 1), 3 * width, from, dims);
        __syncthreads();
        Part<QUERIES, KEYS> scores;
        scores.add_product_t(queries, keys);
        finish_scores(scores, bias, scale, place.from, from, tokens);
#pragma unroll
        for (unsigned i = 0; i < ROWS; ++i) {
            float maximum = largest[i];
#pragma unroll
            for (float score : scores.values[i]) {
                maximum = max(maximum, score);
            }
            maximum = group_reduce<SIDE>(maximum, Max());
            // What was added up so far is in terms of the former maximum.
            const float shrink = exp2f(largest[i] - maximum);
            largest[i] = maximum;
            total[i] *= shrink;
#pragma unroll
            for (float &sum : sums.values[i]) {
                sum *= shrink;
            }
#pragma unroll
            for (float &score : scores.values[i]) {
                score = exp2f(score - maximum);
                total[i] += score;
            }
        }
        scores.store(probabilities);
        __syncthreads();
        keys.load(qkv + place.start(dims, 3, 2), 3 * width, from, dims);
        __syncthreads();
        sums.template add_product<KEYS>([&](unsigned row, unsigned k) { return probabilities.values[row][k]; },
                                        [&](unsigned k, unsigned column) { return keys.values[k][column]; });
    }
#pragma unroll
    for (unsigned i = 0; i < ROWS; ++i) {
        total[i] = group_reduce<SIDE>(total[i], Sum());
        const unsigned query = place.from + own_row() + i * SIDE;
        if (own_column() == 0 && query < tokens) {
            normalisers[place.row(dims) + query] = largest[i] + log2f(total[i]);
        }
#pragma unroll
        for (float &sum : sums.values[i]) {
            sum /= total[i];
        }
    }
    write_rows(output + place.start(dims, 1, 0), width, place.from, dims, sums);
}

/// The gradients of the queries, and of each query the product of its output and the gradient of that, `deltas` `[B, heads, tokens]`: the
/// sum over the keys of the probability times the gradient of that.
template <unsigned DIM, unsigned TILE, class T>
__device__ __forceinline__ void backward_queries(T *grad_qkv, float *deltas, const T *grad, const T *output,
                                                 const T *qkv, const float *bias, const float *normalisers, float scale,
                                                 Dims dims) {
    __shared__ Tile<TILE, DIM> queries, grads, keys, values;
    __shared__ Tile<TILE, TILE> grad_scores;
    const Place place(dims, TILE);
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, start = place.start(dims, 1, 0);
    bias = place.bias(bias, dims);
    queries.load(qkv + place.start(dims, 3, 0), 3 * width, place.from, dims);
    grads.load(grad + start, width, place.from, dims);

    constexpr unsigned ROWS = TILE / SIDE;
    float own_normalisers[ROWS], own_deltas[ROWS];
#pragma unroll
    for (unsigned i = 0; i < ROWS; ++i) {
        const unsigned query = place.from + own_row() + i * SIDE;
        float delta = 0;
        if (query < tokens) {
            for (unsigned column = own_column(); column < dims.head_dim; column += SIDE) {
                delta += grad[start + query * width + column] * output[start + query * width + column];
            }
        }
        own_deltas[i] = group_reduce<SIDE>(delta, Sum());
        own_normalisers[i] = query < tokens ? normalisers[place.row(dims) + query] : 0.0f;
        if (own_column() == 0 && query < tokens) {
            deltas[place.row(dims) + query] = own_deltas[i];
        }
    }
    Part<TILE, DIM> sums;
    for (unsigned from = 0; from < tokens; from += TILE) {
        __syncthreads();
        keys.load(qkv + place.start(dims, 3, 1), 3 * width, from, dims);
        values.load(qkv + place.start(dims, 3, 2), 3 * width, from, dims);
        __syncthreads();
        Part<TILE, TILE> scores, grad_probabilities;
        scores.add_product_t(queries, keys);
        finish_scores(scores, bias, scale, place.from, from, tokens);
        normalise(scores, [&](At at) { return own_normalisers[at.i]; });
        grad_probabilities.add_product_t(grads, values);
        grad_probabilities.each([&](At at, float value) {
            grad_scores.values[at.row][at.column] = scores.values[at.i][at.j] * (value - own_deltas[at.i]);
        });
        __syncthreads();
        sums.template add_product<TILE>([&](unsigned row, unsigned k) { return grad_scores.values[row][k]; },
                                        [&](unsigned k, unsigned column) { return keys.values[k][column]; });
    }
    sums.each([=](At, float &sum) { sum *= scale; });
    write_rows(grad_qkv + place.start(dims, 3, 0), 3 * width, place.from, dims, sums);
}

/// The gradients of the keys and of the values, by the deltas of [`backward_queries`].
template <unsigned DIM, unsigned TILE, class T>
__device__ __forceinline__ void backward_keys(T *grad_qkv, const float *deltas, const T *grad, const T *qkv,
                                              const float *bias, const float *normalisers, float scale, Dims dims) {
    __shared__ Tile<TILE, DIM> queries, grads, keys, values;
    __shared__ Tile<TILE, TILE> probabilities, grad_scores;
    const Place place(dims, TILE);
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens;
    bias = place.bias(bias, dims);
    keys.load(qkv + place.start(dims, 3, 1), 3 * width, place.from, dims);
    values.load(qkv + place.start(dims, 3, 2), 3 * width, place.from, dims);

    Part<TILE, DIM> grad_keys, grad_values;
    for (unsigned from = 0; from < tokens; from += TILE) {
        __syncthreads();
        queries.load(qkv + place.start(dims, 3, 0), 3 * width, from, dims);
        grads.load(grad + place.start(dims, 1, 0), width, from, dims);
        __syncthreads();
        const unsigned row_of = place.row(dims) + from, rows = tokens - from;
        Part<TILE, TILE> scores, grad_probabilities;
        scores.add_product_t(queries, keys);
        finish_scores(scores, bias, scale, from, place.from, tokens);
        normalise(scores, [=](At at) { return at.row < rows ? normalisers[row_of + at.row] : 0.0f; });
        grad_probabilities.add_product_t(grads, values);
        scores.store(probabilities);
        grad_probabilities.each([&](At at, float value) {
            const float delta = at.row < rows ? deltas[row_of + at.row] : 0.0f;
            grad_scores.values[at.row][at.column] = scores.values[at.i][at.j] * (value - delta);
        });
        __syncthreads();
        grad_values.template add_product<TILE>([&](unsigned row, unsigned k) { return probabilities.values[k][row]; },
                                               [&](unsigned k, unsigned column) { return grads.values[k][column]; });
        grad_keys.template add_product<TILE>([&](unsigned row, unsigned k) { return grad_scores.values[k][row]; },
                                             [&](unsigned k, unsigned column) { return queries.values[k][column]; });
    }
    grad_keys.each([=](At, float &sum) { sum *= scale; });
    write_rows(grad_qkv + place.start(dims, 3, 1), 3 * width, place.from, dims, grad_keys);
    write_rows(grad_qkv + place.start(dims, 3, 2), 3 * width, place.from, dims, grad_values);
}

/// The gradient of the bias, `[biases, tokens, tokens]`: a block owns a pair of tiles and goes through the images that share it.
template <unsigned DIM, unsigned TILE, class T>
__device__ __forceinline__ void backward_bias(float *grad_bias, const float *deltas, const T *grad, const T *qkv,
                                              const float *bias, const float *normalisers, float scale, unsigned batch,
                                              Dims dims) {
    __shared__ Tile<TILE, DIM> queries, grads, keys, values;
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, tiles = (tokens + TILE - 1) / TILE;
    Place place(dims, TILE);
    const unsigned index = blockIdx.x / (tiles * tiles);
    place.head = index % dims.heads;
    const unsigned from_query = blockIdx.x / tiles % tiles * TILE, from_key = blockIdx.x % tiles * TILE;
    bias += size_t(index) * tokens * tokens;

    Part<TILE, TILE> sums;
    // All images, or the only one whose bias it is.
    for (place.image = index / dims.heads; place.image < batch; place.image += dims.biases / dims.heads) {
        __syncthreads();
        queries.load(qkv + place.start(dims, 3, 0), 3 * width, from_query, dims);
        grads.load(grad + place.start(dims, 1, 0), width, from_query, dims);
        keys.load(qkv + place.start(dims, 3, 1), 3 * width, from_key, dims);
        values.load(qkv + place.start(dims, 3, 2), 3 * width, from_key, dims);
        __syncthreads();
        const unsigned row_of = place.row(dims) + from_query, rows = tokens - from_query;
        Part<TILE, TILE> scores, grad_probabilities;
        scores.add_product_t(queries, keys);
        finish_scores(scores, bias, scale, from_query, from_key, tokens);
        normalise(scores, [=](At at) { return at.row < rows ? normalisers[row_of + at.row] : 0.0f; });
        grad_probabilities.add_product_t(grads, values);
        sums.each([&](At at, float &sum) {
            if (at.row < rows) {
                sum += scores.values[at.i][at.j] * (grad_probabilities.values[at.i][at.j] - deltas[row_of + at.row]);
            }
        });
    }
    sums.each([=](At at, float sum) {
        const unsigned query = from_query + at.row, key = from_key + at.column;
        if (query < tokens && key < tokens) {
            grad_bias[(size_t(index) * tokens + query) * tokens + key] = sum;
        }
    });
}

/// The kernels for heads of at most DIM values, with tiles that fit into the shared memory of a block.
#define KERNELS(DIM, QUERIES, KEYS, TILE, T, SUFFIX)                                                                   \
    extern "C" __global__ void forward_##DIM##_##SUFFIX(T *output, float *normalisers, const T *qkv,                   \
                                                        const float *bias, float scale, unsigned tokens,               \
                                                        unsigned heads, unsigned head_dim, unsigned biases) {          \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        forward<DIM, QUERIES, KEYS>(output, normalisers, qkv, bias, scale, dims);                                      \
    }                                                                                                                  \
    extern "C" __global__ void backward_queries_##DIM##_##SUFFIX(                                                      \
        T *grad_qkv, float *deltas, const T *grad, const T *output, const T *qkv, const float *bias,                   \
        const float *normalisers, float scale, unsigned tokens, unsigned heads, unsigned head_dim, unsigned biases) {  \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_queries<DIM, TILE>(grad_qkv, deltas, grad, output, qkv, bias, normalisers, scale, dims);              \
    }                                                                                                                  \
    extern "C" __global__ void backward_keys_##DIM##_##SUFFIX(                                                         \
        T *grad_qkv, const float *deltas, const T *grad, const T *qkv, const float *bias, const float *normalisers,    \
        float scale, unsigned tokens, unsigned heads, unsigned head_dim, unsigned biases) {                            \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_keys<DIM, TILE>(grad_qkv, deltas, grad, qkv, bias, normalisers, scale, dims);                         \
    }                                                                                                                  \
    extern "C" __global__ void backward_bias_##DIM##_##SUFFIX(                                                         \
        float *grad_bias, const float *deltas, const T *grad, const T *qkv, const float *bias,                         \
        const float *normalisers, float scale, unsigned batch, unsigned tokens, unsigned heads, unsigned head_dim,     \
        unsigned biases) {                                                                                             \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_bias<DIM, TILE>(grad_bias, deltas, grad, qkv, bias, normalisers, scale, batch, dims);                 \
    }
#define ALL_HEADS(T, SUFFIX)             \
    KERNELS(16, 64, 64, 32, T, SUFFIX)   \
    KERNELS(32, 64, 64, 32, T, SUFFIX)   \
    KERNELS(64, 64, 32, 32, T, SUFFIX)   \
    KERNELS(128, 32, 32, 16, T, SUFFIX)

FOR_EACH_STORAGE(ALL_HEADS)
