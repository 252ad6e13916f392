// Self-attention in bf16 on tensor cores, as FlashAttention-2 (Dao 2023): a warp owns 16 rows, of queries or of keys, and goes through tiles
// of the other in shared memory, which its block loads while it computes. Scores are in base two, for powers of two are cheaper than those
// of e. Scores and sums are in floats; factors of products are rounded to bf16.
//
// For heads of up to DIM values, a multiple of 8: rows are copied 16 bytes at a time.
#include "attention.cuh"

/// Rows of a warp.
constexpr unsigned ROWS = 16;

/// Warps of a block, at most, and blocks whose registers a multiprocessor is to have room for.
constexpr unsigned MOST_WARPS = 4, BLOCKS = 3;

/// Rows of a tile in shared memory.
constexpr unsigned TILE = 64;

/// Rows of a tile that the backward takes at a time, whose scores and gradients of scores it has in registers.
constexpr unsigned STEP = 16;

/// The first row of the warp.
__device__ __forceinline__ unsigned own_rows(const Place &place) {
    return place.from + threadIdx.x / WARP * ROWS;
}
/// Rows of the block.
__device__ __forceinline__ unsigned block_rows() {
    return blockDim.x / WARP * ROWS;
}

/// TILE rows of DIM values; 8 more keep the rows of `load_matrices` on different banks.
template <unsigned DIM>
struct alignas(16) Tile {
    Bf16 rows[TILE][DIM + 8];

    /// Starts to load tokens from `from` on, `stride` apart; zeros behind the last token and the last value.
    __device__ void load(const Bf16 *tokens, unsigned stride, unsigned from, Dims dims) {
        constexpr unsigned PIECES = DIM / 8;
        for (unsigned i = threadIdx.x; i < TILE * PIECES; i += blockDim.x) {
            const unsigned row = i / PIECES, column = i % PIECES * 8;
            const bool inside = from + row < dims.tokens && column < dims.head_dim;
            copy_async(&rows[row][column], inside ? tokens + (from + row) * stride + column : tokens, !inside);
        }
    }
};

/// The left factor of a product, `[ROWS, DIM]`.
template <unsigned DIM>
struct Left {
    unsigned fragments[DIM / 16][4];

    /// Loads tokens from `from` on, `stride` apart; zeros behind the last token and the last value.
    __device__ __forceinline__ void load(const Bf16 *tokens, unsigned stride, unsigned from, Dims dims) {
#pragma unroll
        for (unsigned k = 0; k < DIM / 16; ++k) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const unsigned row = from + threadIdx.x % WARP / 4 + i % 2 * 8;
                const unsigned column = k * 16 + threadIdx.x % 4 * 2 + i / 2 * 8;
                const bool inside = row < dims.tokens && column < dims.head_dim;
                fragments[k][i] = inside ? *reinterpret_cast<const unsigned *>(tokens + row * stride + column) : 0;
            }
        }
    }
};

/// The products of the values of two left factors, added up for each of the thread's two rows.
template <unsigned DIM>
__device__ __forceinline__ void products_of_rows(float (&sums)[2], const Left<DIM> &a, const Left<DIM> &b) {
    const auto first = [](unsigned pair) { return __uint_as_float(pair << 16); };
    const auto second = [](unsigned pair) { return __uint_as_float(pair & 0xffff0000); };
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        float sum = 0;
#pragma unroll
        for (unsigned k = 0; k < DIM / 16; ++k) {
#pragma unroll
            for (unsigned i = half; i < 4; i += 2) {
                const unsigned left = a.fragments[k][i], right = b.fragments[k][i];
                sum += first(left) * first(right) + second(left) * second(right);
            }
        }
        sums[half] = group_reduce<4>(sum, Sum());
    }
}

/// Where one of a thread's sums is: in the product, in which of the thread's two rows, and in its part.
struct At {
    unsigned row, column, half, n, i;
};

/// A product `[ROWS, N]`.
template <unsigned N>
struct Sums {
    float values[N / 8][4] = {};

    /// Calls `body(at, value)` for the thread's part.
    template <class Body>
    __device__ __forceinline__ void each(Body body) {
#pragma unroll
        for (unsigned n = 0; n < N / 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const unsigned row = threadIdx.x % WARP / 4 + i / 2 * 8, column = n * 8 + threadIdx.x % 4 * 2 + i % 2;
                body(At{row, column, i / 2, n, i}, values[n][i]);
            }
        }
    }

    /// Adds `a b^T`, of the N rows of `b` from `from` on. Those from `valid` on, counted from there, may be left out.
    template <unsigned DIM>
    __device__ __forceinline__ void add_product_t(const Left<DIM> &a, const Tile<DIM> &b, unsigned from, unsigned valid) {
        const unsigned lane = threadIdx.x % WARP, row = from + lane % 8 + lane / 16 * 8, column = lane / 8 % 2 * 8;
#pragma unroll
        for (unsigned n = 0; n < N; n += 16) {
            if (n < valid) {
#pragma unroll
                for (unsigned k = 0; k < DIM / 16; ++k) {
                    unsigned right[4];
                    load_matrices<false>(right, &b.rows[n + row][k * 16 + column]);
                    multiply_add(values[n / 8], a.fragments[k], right[0], right[1]);
                    multiply_add(values[n / 8 + 1], a.fragments[k], right[2], right[3]);
                }
            }
        }
    }

    /// Adds `a b`, of the DEPTH rows of `b` from `from` on. Those from `valid` on, counted from there, may be left out.
    template <unsigned DEPTH>
    __device__ __forceinline__ void add_product(const Left<DEPTH> &a, const Tile<N> &b, unsigned from, unsigned valid) {
        const unsigned lane = threadIdx.x % WARP, row = from + lane % 16, column = lane / 16 * 8;
#pragma unroll
        for (unsigned k = 0; k < DEPTH / 16; ++k) {
            if (k * 16 < valid) {
#pragma unroll
                for (unsigned n = 0; n < N; n += 16) {
                    unsigned right[4];
                    load_matrices<true>(right, &b.rows[k * 16 + row][n + column]);
                    multiply_add(values[n / 8], a.fragments[k], right[0], right[1]);
                    multiply_add(values[n / 8 + 1], a.fragments[k], right[2], right[3]);
                }
            }
        }
    }

    /// As the left factor of another product.
    __device__ __forceinline__ Left<N> rounded() const {
        Left<N> left;
#pragma unroll
        for (unsigned k = 0; k < N / 16; ++k) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const float *pair = &values[2 * k + i / 2][i % 2 * 2];
                left.fragments[k][i] = to_bf16_pair(pair[0], pair[1]);
            }
        }
        return left;
    }

    /// Writes the rows, times `scale`, as tokens from `from` on, `stride` apart.
    __device__ __forceinline__ void write(Bf16 *tokens, unsigned stride, unsigned from, Dims dims, float scale) const {
#pragma unroll
        for (unsigned n = 0; n < N / 8; ++n) {
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                const unsigned row = from + threadIdx.x % WARP / 4 + half * 8, column = n * 8 + threadIdx.x % 4 * 2;
                if (row < dims.tokens && column < dims.head_dim) {
                    const float *pair = &values[n][half * 2];
                    *reinterpret_cast<unsigned *>(tokens + row * stride + column) =
                        to_bf16_pair(scale * pair[0], scale * pair[1]);
                }
            }
        }
    }
};

/// Calls `use(buffer, from)` for the tokens of one tile after another, which `load(buffer, from)` has started to load into the one of two
/// buffers; meanwhile the next one is loaded into the other. All threads of the block have to call it.
template <class Load, class Use>
__device__ __forceinline__ void each_tile(unsigned tokens, Load load, Use use) {
    load(0, 0);
    commit_copies();
    for (unsigned from = 0, buffer = 0; from < tokens; from += TILE, buffer ^= 1) {
        if (from + TILE < tokens) {
            load(buffer ^ 1, from + TILE);
        }
        commit_copies();
        wait_for_copies<1>();
        __syncthreads();
        use(buffer, from);
        // The buffer is loaded again next.
        __syncthreads();
    }
}

/// The output, and the binary logarithms of the normalisers `[B, heads, tokens]`.
template <unsigned DIM>
__device__ __forceinline__ void forward(Bf16 *output, float *normalisers, const Bf16 *qkv, const float *bias,
                                        float scale, Dims dims) {
    __shared__ Tile<DIM> keys[2], values[2];
    const Place place(dims, block_rows());
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, own = own_rows(place);
    bias = place.bias(bias, dims);
    Left<DIM> queries;
    queries.load(qkv + place.start(dims, 3, 0), 3 * width, own, dims);

    Sums<DIM> sums;
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
    const auto load = [&](unsigned buffer, unsigned from) {
        keys[buffer].load(qkv + place.start(dims, 3, 1), 3 * width, from, dims);
        values[buffer].load(qkv + place.start(dims, 3, 2), 3 * width, from, dims);
    };
    each_tile(tokens, load, [&](unsigned buffer, unsigned from) {
        if (own >= tokens) {
            return;
        }
        Sums<TILE> scores;
        scores.add_product_t(queries, keys[buffer], 0, tokens - from);
        float maximum[2] = {largest[0], largest[1]};
        scores.each([&](At at, float &score) {
            score = score_of(score, bias, scale, own + at.row, from + at.column, tokens);
            maximum[at.half] = max(maximum[at.half], score);
        });
        float shrink[2];
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            maximum[half] = group_reduce<4>(maximum[half], Max());
            // What was added up so far is in terms of the former maximum.
            shrink[half] = exp2f(largest[half] - maximum[half]);
            largest[half] = maximum[half];
            total[half] *= shrink[half];
        }
        sums.each([&](At at, float &sum) { sum *= shrink[at.half]; });
        scores.each([&](At at, float &score) {
            score = exp2f(score - largest[at.half]);
            total[at.half] += score;
        });
        sums.add_product(scores.rounded(), values[buffer], 0, tokens - from);
    });
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        total[half] = group_reduce<4>(total[half], Sum());
        const unsigned query = own + threadIdx.x % WARP / 4 + half * 8;
        if (threadIdx.x % 4 == 0 && query < tokens) {
            normalisers[place.row(dims) + query] = largest[half] + log2f(total[half]);
        }
    }
    sums.each([&](At at, float &sum) { sum *= 1 / total[at.half]; });
    sums.write(output + place.start(dims, 1, 0), width, own, dims, 1);
}

/// The gradients of the queries, and of each query the product of its output and the gradient of that, `deltas` `[B, heads, tokens]`.
template <unsigned DIM>
__device__ __forceinline__ void backward_queries(Bf16 *grad_qkv, float *deltas, const Bf16 *grad, const Bf16 *output,
                                                 const Bf16 *qkv, const float *bias, const float *normalisers,
                                                 float scale, Dims dims) {
    __shared__ Tile<DIM> keys[2], values[2];
    const Place place(dims, block_rows());
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, own = own_rows(place);
    bias = place.bias(bias, dims);
    Left<DIM> queries, grads;
    queries.load(qkv + place.start(dims, 3, 0), 3 * width, own, dims);
    grads.load(grad + place.start(dims, 1, 0), width, own, dims);
    float own_normalisers[2], own_deltas[2];
    {
        Left<DIM> outputs;
        outputs.load(output + place.start(dims, 1, 0), width, own, dims);
        products_of_rows(own_deltas, grads, outputs);
    }
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const unsigned query = own + threadIdx.x % WARP / 4 + half * 8;
        own_normalisers[half] = query < tokens ? normalisers[place.row(dims) + query] : 0.0f;
        if (threadIdx.x % 4 == 0 && query < tokens) {
            deltas[place.row(dims) + query] = own_deltas[half];
        }
    }

    Sums<DIM> sums;
    const auto load = [&](unsigned buffer, unsigned from) {
        keys[buffer].load(qkv + place.start(dims, 3, 1), 3 * width, from, dims);
        values[buffer].load(qkv + place.start(dims, 3, 2), 3 * width, from, dims);
    };
    each_tile(tokens, load, [&](unsigned buffer, unsigned from) {
        if (own >= tokens) {
            return;
        }
        for (unsigned step = 0; step < TILE && from + step < tokens; step += STEP) {
            const unsigned first = from + step, valid = tokens - first;
            Sums<STEP> scores, grad_scores;
            scores.add_product_t(queries, keys[buffer], step, valid);
            grad_scores.add_product_t(grads, values[buffer], step, valid);
            scores.each([&](At at, float score) {
                score = score_of(score, bias, scale, own + at.row, first + at.column, tokens);
                float &grad_score = grad_scores.values[at.n][at.i];
                grad_score = exp2f(score - own_normalisers[at.half]) * (grad_score - own_deltas[at.half]);
            });
            sums.add_product(grad_scores.rounded(), keys[buffer], step, valid);
        }
    });
    sums.write(grad_qkv + place.start(dims, 3, 0), 3 * width, own, dims, scale);
}

/// The gradients of the keys and of the values, by the deltas of [`backward_queries`].
template <unsigned DIM>
__device__ __forceinline__ void backward_keys(Bf16 *grad_qkv, const float *deltas, const Bf16 *grad, const Bf16 *qkv,
                                              const float *bias, const float *normalisers, float scale, Dims dims) {
    __shared__ Tile<DIM> queries[2], grads[2];
    const Place place(dims, block_rows());
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, own = own_rows(place);
    bias = place.bias(bias, dims);
    deltas += place.row(dims);
    normalisers += place.row(dims);
    Left<DIM> keys, values;
    keys.load(qkv + place.start(dims, 3, 1), 3 * width, own, dims);
    values.load(qkv + place.start(dims, 3, 2), 3 * width, own, dims);

    Sums<DIM> grad_keys, grad_values;
    const auto load = [&](unsigned buffer, unsigned from) {
        queries[buffer].load(qkv + place.start(dims, 3, 0), 3 * width, from, dims);
        grads[buffer].load(grad + place.start(dims, 1, 0), width, from, dims);
    };
    each_tile(tokens, load, [&](unsigned buffer, unsigned from) {
        if (own >= tokens) {
            return;
        }
        for (unsigned step = 0; step < TILE && from + step < tokens; step += STEP) {
            const unsigned first = from + step, valid = tokens - first;
            Sums<STEP> probabilities, grad_scores;
            probabilities.add_product_t(keys, queries[buffer], step, valid);
            grad_scores.add_product_t(values, grads[buffer], step, valid);
            probabilities.each([&](At at, float &probability) {
                const unsigned query = first + at.column;
                const float normaliser = query < tokens ? normalisers[query] : 0.0f;
                const float delta = query < tokens ? deltas[query] : 0.0f;
                probability = exp2f(score_of(probability, bias, scale, query, own + at.row, tokens) - normaliser);
                float &grad_score = grad_scores.values[at.n][at.i];
                grad_score = probability * (grad_score - delta);
            });
            grad_values.add_product(probabilities.rounded(), grads[buffer], step, valid);
            grad_keys.add_product(grad_scores.rounded(), queries[buffer], step, valid);
        }
    });
    grad_keys.write(grad_qkv + place.start(dims, 3, 1), 3 * width, own, dims, scale);
    grad_values.write(grad_qkv + place.start(dims, 3, 2), 3 * width, own, dims, 1);
}

/// The gradient of the bias, `[biases, tokens, tokens]`: a block owns queries and a tile of keys, and goes through the images that share it.
template <unsigned DIM>
__device__ __forceinline__ void backward_bias(float *grad_bias, const float *deltas, const Bf16 *grad, const Bf16 *qkv,
                                              const float *bias, const float *normalisers, float scale, unsigned batch,
                                              Dims dims) {
    __shared__ Tile<DIM> keys, values;
    const unsigned width = dims.heads * dims.head_dim, tokens = dims.tokens, tiles = (tokens + TILE - 1) / TILE;
    Place place(dims, block_rows());
    const unsigned blocks = (tokens + block_rows() - 1) / block_rows(), index = blockIdx.x / (blocks * tiles);
    place.head = index % dims.heads;
    place.from = blockIdx.x / tiles % blocks * block_rows();
    const unsigned own = own_rows(place), from = blockIdx.x % tiles * TILE;
    bias += size_t(index) * tokens * tokens;

    Sums<TILE> sums;
    // All images, or the only one whose bias it is.
    for (place.image = index / dims.heads; place.image < batch; place.image += dims.biases / dims.heads) {
        __syncthreads();
        keys.load(qkv + place.start(dims, 3, 1), 3 * width, from, dims);
        values.load(qkv + place.start(dims, 3, 2), 3 * width, from, dims);
        commit_copies();
        Left<DIM> queries, grads;
        queries.load(qkv + place.start(dims, 3, 0), 3 * width, own, dims);
        grads.load(grad + place.start(dims, 1, 0), width, own, dims);
        float own_normalisers[2], own_deltas[2];
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            const unsigned query = own + threadIdx.x % WARP / 4 + half * 8;
            own_normalisers[half] = query < tokens ? normalisers[place.row(dims) + query] : 0.0f;
            own_deltas[half] = query < tokens ? deltas[place.row(dims) + query] : 0.0f;
        }
        wait_for_copies<0>();
        __syncthreads();
        Sums<TILE> scores, grad_probabilities;
        scores.add_product_t(queries, keys, 0, tokens - from);
        grad_probabilities.add_product_t(grads, values, 0, tokens - from);
        scores.each([&](At at, float score) {
            score = score_of(score, bias, scale, own + at.row, from + at.column, tokens);
            const float grad_score = grad_probabilities.values[at.n][at.i] - own_deltas[at.half];
            sums.values[at.n][at.i] += exp2f(score - own_normalisers[at.half]) * grad_score;
        });
    }
    sums.each([&](At at, float sum) {
        const unsigned query = own + at.row, key = from + at.column;
        if (query < tokens && key < tokens) {
            grad_bias[(size_t(index) * tokens + query) * tokens + key] = sum;
        }
    });
}

/// The kernels for heads of at most DIM values.
#define KERNELS(DIM)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(MOST_WARPS * WARP, BLOCKS) forward_##DIM(                             \
        Bf16 *output, float *normalisers, const Bf16 *qkv, const float *bias, float scale, unsigned tokens,            \
        unsigned heads, unsigned head_dim, unsigned biases) {                                                          \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        forward<DIM>(output, normalisers, qkv, bias, scale, dims);                                                     \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(MOST_WARPS * WARP, BLOCKS) backward_queries_##DIM(                    \
        Bf16 *grad_qkv, float *deltas, const Bf16 *grad, const Bf16 *output, const Bf16 *qkv, const float *bias,       \
        const float *normalisers, float scale, unsigned tokens, unsigned heads, unsigned head_dim, unsigned biases) {  \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_queries<DIM>(grad_qkv, deltas, grad, output, qkv, bias, normalisers, scale, dims);                    \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(MOST_WARPS * WARP, BLOCKS) backward_keys_##DIM(                       \
        Bf16 *grad_qkv, const float *deltas, const Bf16 *grad, const Bf16 *qkv, const float *bias,                     \
        const float *normalisers, float scale, unsigned tokens, unsigned heads, unsigned head_dim, unsigned biases) {  \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_keys<DIM>(grad_qkv, deltas, grad, qkv, bias, normalisers, scale, dims);                               \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(MOST_WARPS * WARP) backward_bias_##DIM(                               \
        float *grad_bias, const float *deltas, const Bf16 *grad, const Bf16 *qkv, const float *bias,                   \
        const float *normalisers, float scale, unsigned batch, unsigned tokens, unsigned heads, unsigned head_dim,     \
        unsigned biases) {                                                                                             \
        const Dims dims = {tokens, heads, head_dim, biases};                                                           \
        backward_bias<DIM>(grad_bias, deltas, grad, qkv, bias, normalisers, scale, batch, dims);                       \
    }

KERNELS(32)
KERNELS(64)
