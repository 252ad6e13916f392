// Depthwise convolution on patch-sparse features `[B, P * cell * cell, C]`. A warp takes PIECE positions of a line of a patch, with the
// channels side by side; where they read is looked up once for all channels.
#include "common.cuh"

/// The slot of a patch that is not kept, and the row of a position that is not there.
constexpr unsigned ABSENT = 0xffffffff;

/// The largest side of a kernel, where it is not known to the compiler.
constexpr unsigned LARGEST = 13;

/// Where the positions lie: `ids` is `[B, P]`, `slots` `[B, rows * cols]`.
struct Layout {
    const unsigned *ids, *slots;
    unsigned rows, cols, cell, kept;

    /// The row of the features at a position counted from the first one of a patch.
    __device__ unsigned row(unsigned patch, int line, int column) const {
        const unsigned id = ids[patch], image = patch / kept;
        const int y = int(id / cols * cell) + line, x = int(id % cols * cell) + column;
        if (y < 0 || x < 0 || y >= int(rows * cell) || x >= int(cols * cell)) {
            return ABSENT;
        }
        const unsigned slot = slots[(image * rows + y / cell) * cols + x / cell];
        return slot == ABSENT ? ABSENT : ((image * kept + slot) * cell + y % cell) * cell + x % cell;
    }
};

/// PIECE positions of a line.
template <unsigned PIECE>
struct Piece {
    unsigned patch, line, column;
    __device__ Piece(const Layout &layout, unsigned index) {
        const unsigned pieces = layout.cell / PIECE;
        patch = index / pieces / layout.cell;
        line = index / pieces % layout.cell;
        column = index % pieces * PIECE;
    }
    /// The row of the features of the first position.
    __device__ unsigned row(const Layout &layout) const {
        return (patch * layout.cell + line) * layout.cell + column;
    }
    /// Looks up the rows that a line of the kernel reads; for the threads of a warp.
    __device__ void look_up(unsigned *rows, const Layout &layout, unsigned kernel, unsigned kernel_line) const {
        const int above = int(kernel_line) - int(kernel / 2), left = int(column) - int(kernel / 2);
        for (unsigned i = threadIdx.x % WARP; i < PIECE + kernel - 1; i += WARP) {
            rows[i] = layout.row(patch, int(line) + above, left + int(i));
        }
    }
};

/// `[K * K, C]` from `[C, K * K]`, the taps in reverse if `flipped` is 1.
extern "C" __global__ void pack(float *packed, const float *weight, unsigned taps, unsigned channels, unsigned flipped) {
    each(taps * channels, [=](unsigned i) {
        const unsigned tap = i / channels, c = i % channels;
        packed[i] = weight[c * taps + (flipped ? taps - 1 - tap : tap)];
    });
}

/// The sums of the features, times `visible`, times the packed weight; plus the bias, times `scale`. What is null is left out.
/// `K` is the side of the kernel, or 0 where the compiler does not know it.
template <unsigned K, unsigned PIECE, class T>
__device__ __forceinline__ void correlate(T *y, const T *x, const float *weight, const float *bias,
                                          const float *visible, const float *scale, Layout layout, unsigned kernel,
                                          unsigned channels, unsigned pieces) {
    constexpr unsigned SIDE = K ? K : LARGEST;
    __shared__ unsigned sources[WARPS][SIDE * (PIECE + SIDE - 1)];
    kernel = K ? K : kernel;
    const unsigned warp = threadIdx.x / WARP, width = PIECE + kernel - 1, index = blockIdx.x * WARPS + warp;
    const Piece<PIECE> piece(layout, index);
    if (index < pieces) {
        for (unsigned line = 0; line < kernel; ++line) {
            piece.look_up(sources[warp] + line * width, layout, kernel, line);
        }
    }
    __syncthreads();
    if (index >= pieces) {
        return;
    }
    const unsigned row = piece.row(layout);
    for (unsigned c = threadIdx.x % WARP; c < channels; c += WARP) {
        float sums[PIECE];
#pragma unroll
        for (float &sum : sums) {
            sum = bias ? bias[c] : 0.0f;
        }
        for (unsigned line = 0; line < kernel; ++line) {
#pragma unroll
            for (unsigned at = 0; at < width; ++at) {
                const unsigned source = sources[warp][line * width + at];
                if (source == ABSENT) {
                    continue;
                }
                const float value = x[source * channels + c] * (visible ? visible[source] : 1.0f);
#pragma unroll
                for (unsigned i = 0; i < PIECE; ++i) {
                    if (at >= i && at - i < kernel) {
                        sums[i] += value * weight[(line * kernel + at - i) * channels + c];
                    }
                }
            }
        }
#pragma unroll
        for (unsigned i = 0; i < PIECE; ++i) {
            y[(row + i) * channels + c] = scale ? sums[i] * scale[row + i] : sums[i];
        }
    }
}

/// Partial sums of the gradient of the weight, `[chunks, K * K, C]`, over chunks of pieces (y), for one line of the kernel (z).
template <unsigned K, unsigned PIECE, class T>
__device__ __forceinline__ void grad_weight(float *partial, const T *x, const T *grad, const float *visible,
                                            Layout layout, unsigned kernel, unsigned channels, unsigned pieces) {
    constexpr unsigned SIDE = K ? K : LARGEST, WIDTH = PIECE + SIDE - 1;
    __shared__ unsigned sources[WARPS][WIDTH];
    __shared__ float totals[THREADS];
    kernel = K ? K : kernel;
    const unsigned warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, c = blockIdx.x * WARP + lane;
    const unsigned length = (pieces + gridDim.y - 1) / gridDim.y;
    const unsigned start = blockIdx.y * length, end = min(start + length, pieces);
    float sums[SIDE] = {};
    for (unsigned first = start; first < end; first += WARPS) {
        const unsigned index = first + warp;
        const Piece<PIECE> piece(layout, index);
        __syncthreads();
        if (index < end) {
            piece.look_up(sources[warp], layout, kernel, blockIdx.z);
        }
        __syncthreads();
        if (index < end && c < channels) {
            float grads[PIECE], values[WIDTH];
#pragma unroll
            for (unsigned i = 0; i < PIECE; ++i) {
                grads[i] = grad[(piece.row(layout) + i) * channels + c];
            }
#pragma unroll
            for (unsigned at = 0; at < WIDTH; ++at) {
                const unsigned source = at < PIECE + kernel - 1 ? sources[warp][at] : ABSENT;
                values[at] = source == ABSENT ? 0.0f : x[source * channels + c] * (visible ? visible[source] : 1.0f);
            }
#pragma unroll
            for (unsigned tap = 0; tap < SIDE; ++tap) {
#pragma unroll
                for (unsigned i = 0; i < PIECE; ++i) {
                    sums[tap] += values[tap + i] * grads[i];
                }
            }
        }
    }
#pragma unroll
    for (unsigned tap = 0; tap < SIDE; ++tap) {
        __syncthreads();
        totals[threadIdx.x] = sums[tap];
        __syncthreads();
        if (warp == 0 && c < channels && tap < kernel) {
            float total = totals[lane];
            for (unsigned other = 1; other < WARPS; ++other) {
                total += totals[other * WARP + lane];
            }
            partial[((blockIdx.y * kernel + blockIdx.z) * kernel + tap) * channels + c] = total;
        }
    }
}

/// `[C, taps]`.
extern "C" __global__ void finish_weight(float *weight, const float *partial, unsigned chunks, unsigned taps,
                                         unsigned channels) {
    each(taps * channels, [=](unsigned i) {
        const unsigned tap = i / channels, c = i % channels;
        weight[c * taps + tap] = sum_chunks(partial, chunks, taps * channels, i);
    });
}

#define KERNELS(NAME, K, PIECE, T, SUFFIX)                                                                             \
    extern "C" __global__ void correlate_##NAME##_##PIECE##_##SUFFIX(                                                  \
        T *y, const T *x, const float *weight, const float *bias, const float *visible, const float *scale,            \
        const unsigned *ids, const unsigned *slots, unsigned rows, unsigned cols, unsigned cell, unsigned kept,        \
        unsigned kernel, unsigned channels, unsigned pieces) {                                                         \
        correlate<K, PIECE>(y, x, weight, bias, visible, scale, {ids, slots, rows, cols, cell, kept}, kernel,          \
                            channels, pieces);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void grad_weight_##NAME##_##PIECE##_##SUFFIX(                                                \
        float *partial, const T *x, const T *grad, const float *visible, const unsigned *ids, const unsigned *slots,   \
        unsigned rows, unsigned cols, unsigned cell, unsigned kept, unsigned kernel, unsigned channels,                \
        unsigned pieces) {                                                                                             \
        grad_weight<K, PIECE>(partial, x, grad, visible, {ids, slots, rows, cols, cell, kept}, kernel, channels,       \
                              pieces);                                                                                 \
    }
#define ALL_PIECES(T, SUFFIX)       \
    KERNELS(5, 5, 1, T, SUFFIX)     \
    KERNELS(5, 5, 2, T, SUFFIX)     \
    KERNELS(5, 5, 4, T, SUFFIX)     \
    KERNELS(any, 0, 1, T, SUFFIX)   \
    KERNELS(any, 0, 2, T, SUFFIX)   \
    KERNELS(any, 0, 4, T, SUFFIX)

FOR_EACH_STORAGE(ALL_PIECES)
