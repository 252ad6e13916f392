// What the kernels of attention share.
#pragma once

#include "common.cuh"

constexpr float LOG2_E = 1.44269504f;

/// The sizes: `qkv` is `[B, tokens, 3, heads, head_dim]`, the output `[B, tokens, heads, head_dim]`, the bias
/// `[biases, tokens, tokens]`: for each head, or for each head of each image.
struct Dims {
    unsigned tokens, heads, head_dim, biases;
};

/// A head of an image, and a tile of its tokens.
struct Place {
    unsigned image, head, from;
    __device__ Place(Dims dims, unsigned tile) {
        const unsigned tiles = (dims.tokens + tile - 1) / tile, head_of_batch = blockIdx.x / tiles;
        image = head_of_batch / dims.heads;
        head = head_of_batch % dims.heads;
        from = blockIdx.x % tiles * tile;
    }
    /// Where the head's values of the image's first token lie in `[B, tokens, parts, heads, head_dim]`.
    __device__ unsigned start(Dims dims, unsigned parts, unsigned part) const {
        return ((image * dims.tokens * parts + part) * dims.heads + head) * dims.head_dim;
    }
    /// The head's part of the bias, if there is one.
    __device__ const float *bias(const float *bias, Dims dims) const {
        const size_t index = (image * dims.heads + head) % dims.biases;
        return bias ? bias + index * dims.tokens * dims.tokens : nullptr;
    }
    /// Where the first of the values `[B, heads, tokens]` of the head lies.
    __device__ unsigned row(Dims dims) const { return (image * dims.heads + head) * dims.tokens; }
};

/// From the product of a query and a key to their score in base two: times `log2(e)` and the scale, plus the bias, `[tokens, tokens]` or
/// null; minus infinity behind the last key.
__device__ __forceinline__ float score_of(float product, const float *bias, float scale, unsigned query, unsigned key,
                                          unsigned tokens) {
    if (key >= tokens) {
        return -INFINITY;
    }
    const float score = product * scale * LOG2_E;
    return bias && query < tokens ? score + bias[query * tokens + key] * LOG2_E : score;
}
