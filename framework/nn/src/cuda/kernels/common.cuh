// What the kernels share. All are written for blocks of THREADS threads in one dimension.
#pragma once

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

/// `op` over the values of each WIDTH threads in a row, for each of them. All threads of the block have to call it.
template <unsigned WIDTH, class T, class Op>
__device__ __forceinline__ T group_reduce(T value, Op op) {
#ifdef FAKECUDA
    // The stand-in has no warps (tests/cuda-standin): through shared memory.
    __shared__ T values[THREADS];
    values[threadIdx.x] = value;
    __syncthreads();
    const T *group = values + threadIdx.x / WIDTH * WIDTH;
    T result = group[0];
    for (unsigned i = 1; i < WIDTH; ++i) {
        result = op(result, group[i]);
    }
    __syncthreads();
    return result;
#else
    for (unsigned offset = WIDTH / 2; offset > 0; offset /= 2) {
        value = op(value, __shfl_xor_sync(0xffffffff, value, offset));
    }
    return value;
#endif
}

/// `op` over the values of a warp's threads, for each of them. All threads of the block have to call it.
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

/// The sum of one column of `partial`, `[chunks, columns]`.
template <class T>
__device__ __forceinline__ T sum_chunks(const T *partial, unsigned chunks, unsigned columns, unsigned column) {
    T sum = T();
    for (unsigned chunk = 0; chunk < chunks; ++chunk) {
        sum += partial[chunk * columns + column];
    }
    return sum;
}
