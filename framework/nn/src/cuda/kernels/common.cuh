// What the kernels share. All are written for blocks of THREADS threads in one dimension.
#pragma once

#include "primitives.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned WARP = 32;
/// Rows of a block in kernels where a warp takes a row.
constexpr unsigned WARPS = THREADS / WARP;

/// Calls `body(i)` for all `i < count`, divided among the threads of the grid.
template <class Body>
__device__ __forceinline__ void each(unsigned count, Body body) {
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) {
        body(i);
    }
}

/// The last of a table of `count` tensors that starts at this block or before: its blocks are those from `first_block` on.
template <class Tensor>
__device__ __forceinline__ const Tensor &tensor_of_block(const Tensor *tensors, unsigned count) {
    unsigned low = 0, high = count;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        (tensors[middle].first_block <= blockIdx.x ? low : high) = middle;
    }
    return tensors[low];
}

/// Values of such a block.
constexpr unsigned CHUNK = 16 * THREADS;

/// What an update multiplies gradients by; if `found_inf` is not 0, there is none.
struct GradScale {
    float factor;
    unsigned found_inf;
};

// ---- Values as they are stored. All is computed in float.

/// The upper half of a float, rounded to the nearest.
struct Bf16 {
    unsigned short bits;
    Bf16() = default;
    __device__ __forceinline__ Bf16(float value) : bits(to_bf16(value)) {}
    __device__ __forceinline__ operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};

/// Declares a kernel for values that are stored in floats, and for such in bf16: `KERNEL(type, suffix of its name)`.
#define FOR_EACH_STORAGE(KERNEL) KERNEL(float, f32) KERNEL(Bf16, bf16)

// ---- Reductions, in an order that depends on nothing but the number of threads.

struct Sum {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
};

struct Max {
    template <class T>
    __device__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

/// `op` over the values of each WIDTH threads in a row, for each of them. All threads of the warp have to call it.
template <unsigned WIDTH, class T, class Op>
__device__ __forceinline__ T group_reduce(T value, Op op) {
    for (unsigned offset = WIDTH / 2; offset > 0; offset /= 2) {
        value = op(value, __shfl_xor_sync(0xffffffff, value, offset));
    }
    return value;
}

/// `op` over the values of a warp's threads, for each of them. All of them have to call it.
template <class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, Op op) {
    return group_reduce<WARP>(value, op);
}

/// The sum over the threads of a block, for each of them.
template <class T>
__device__ __forceinline__ T block_sum(T value) {
    __shared__ T sums[WARPS];
    value = warp_reduce(value, Sum());
    if (threadIdx.x % WARP == 0) {
        sums[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    T total = sums[0];
    for (unsigned warp = 1; warp < WARPS; ++warp) {
        total += sums[warp];
    }
    __syncthreads();
    return total;
}

/// Two sums at a time.
template <class T>
struct Two {
    T a, b;
    __device__ Two &operator+=(const Two &other) {
        a += other.a;
        b += other.b;
        return *this;
    }
};

/// Writes to `partial`, `[gridDim.y, columns]`, the sums of `value(row, column)` over the rows of each of the grid's chunks. The grid
/// has a block of x for WARP columns; the warps of a block take turns at the rows.
template <class T, class Value>
__device__ __forceinline__ void sum_columns(T *partial, unsigned rows, unsigned columns, Value value) {
    __shared__ T sums[THREADS];
    const unsigned column = blockIdx.x * WARP + threadIdx.x % WARP;
    const unsigned length = (rows + gridDim.y - 1) / gridDim.y;
    const unsigned start = blockIdx.y * length, end = min(start + length, rows);
    T sum = T();
    if (column < columns) {
        for (unsigned row = start + threadIdx.x / WARP; row < end; row += WARPS) {
            sum += value(row, column);
        }
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < WARP && column < columns) {
        for (unsigned warp = 1; warp < WARPS; ++warp) {
            sum += sums[warp * WARP + threadIdx.x];
        }
        partial[blockIdx.y * columns + column] = sum;
    }
}

/// Whether this is the last of the `blocks` that count at `counter`, which is 0 before and after: what the others have written it may
/// read. All threads of the block have to call it.
__device__ __forceinline__ bool is_last_block(unsigned *counter, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(counter, 1u) == blocks - 1;
        if (last) {
            *counter = 0;
        }
    }
    __syncthreads();
    __threadfence();
    return last;
}

/// [`sum_columns`], and the last block of each WARP columns writes or, if `add` is 1, adds their sums to `sums`, `[columns]`.
/// `counters` is a 0 for each block of x.
template <class Value>
__device__ __forceinline__ void sum_columns_whole(float *sums, float *partial, unsigned *counters, unsigned rows,
                                                  unsigned columns, unsigned add, Value value) {
    sum_columns(partial, rows, columns, value);
    if (!is_last_block(counters + blockIdx.x, gridDim.y)) {
        return;
    }
    __shared__ float totals[THREADS];
    const unsigned column = blockIdx.x * WARP + threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const volatile float *written = partial;
    float sum = 0;
    if (column < columns) {
        for (unsigned chunk = warp; chunk < gridDim.y; chunk += WARPS) {
            sum += written[chunk * columns + column];
        }
    }
    totals[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
        for (unsigned other = 1; other < WARPS; ++other) {
            sum += totals[other * WARP + threadIdx.x];
        }
        sums[column] = add ? sums[column] + sum : sum;
    }
}

/// Blocks whose sums the last of them adds up, before the last block of all adds up those sums: no block reads many.
constexpr unsigned GROUP = 16;

/// What another block has written, in memory that all blocks see.
__device__ __forceinline__ float written(const float *at) { return *static_cast<const volatile float *>(at); }

template <class T>
__device__ __forceinline__ Two<T> written(const Two<T> *at) {
    return {written(&at->a), written(&at->b)};
}

/// Calls `finish(column, sum)` in the last block of the grid, for each column of `partial`, `[gridDim.x, columns]`, of which each block
/// has written its row. `groups` has a row for each GROUP blocks; `counters` is a 0 for each of these, and one more. All threads of the
/// block have to call it.
template <class T, class Finish>
__device__ __forceinline__ void sum_blocks(const T *partial, T *groups, unsigned *counters, unsigned columns,
                                           Finish finish) {
    const auto sum = [=](const T *rows, unsigned count, unsigned column) {
        T sum = T();
        for (unsigned row = 0; row < count; ++row) {
            sum += written(rows + row * columns + column);
        }
        return sum;
    };
    const unsigned group = blockIdx.x / GROUP, first = group * GROUP, blocks = min(GROUP, gridDim.x - first);
    if (!is_last_block(counters + 1 + group, blocks)) {
        return;
    }
    for (unsigned c = threadIdx.x; c < columns; c += THREADS) {
        groups[group * columns + c] = sum(partial + first * columns, blocks, c);
    }
    const unsigned all = (gridDim.x + GROUP - 1) / GROUP;
    if (!is_last_block(counters, all)) {
        return;
    }
    for (unsigned c = threadIdx.x; c < columns; c += THREADS) {
        finish(c, sum(groups, all, c));
    }
}

/// Writes a sum, or adds it to what is there if `add` is 1; does nothing without a place for it.
__device__ __forceinline__ void put_sum(float *at, unsigned column, float sum, unsigned add) {
    if (at) {
        at[column] = add ? at[column] + sum : sum;
    }
}

/// The sum of one column of `partial`, `[chunks, columns]`.
template <class T>
__device__ __forceinline__ T sum_chunks(const T *partial, unsigned chunks, unsigned columns, unsigned column) {
    T sum = T();
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
        sum += partial[chunk * columns + column];
    }
    return sum;
}
