// Instructions of a card that C++ has no words for. The stand-in (tests/cuda-standin) has a body of its own for each, and nowhere else.
#pragma once

// ---- bf16: the upper half of a float, rounded to the nearest.

/// Its bits.
__device__ __forceinline__ unsigned short to_bf16(float value) {
#ifdef FAKECUDA
    const unsigned all = __float_as_uint(value);
    // A NaN may not be rounded to infinity.
    return value != value ? 0x7fff : (all + 0x7fff + (all >> 16 & 1)) >> 16;
#else
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
#endif
}

/// Two of them in a register, as products take them: the first one in the lower half.
__device__ __forceinline__ unsigned to_bf16_pair(float first, float second) {
#ifdef FAKECUDA
    return to_bf16(first) | unsigned(to_bf16(second)) << 16;
#else
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#endif
}

// ---- Copies that run beside the thread.

/// Starts to copy 16 bytes to shared memory, or to fill them with zeros; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool is_zero) {
#ifdef FAKECUDA
    assert((uintptr_t(shared) | uintptr_t(global)) % 16 == 0);
    fakecuda_copy_async(shared, global, is_zero ? 0 : 16);
#else
    const unsigned to = __cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(is_zero ? 0 : 16) : "memory");
#endif
}

/// Ends a group of copies.
__device__ __forceinline__ void commit_copies() {
#ifdef FAKECUDA
    fakecuda_copy_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most so many groups of the thread's own copies are under way.
template <unsigned GROUPS>
__device__ __forceinline__ void wait_for_copies() {
#ifdef FAKECUDA
    fakecuda_copy_wait(GROUPS);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
#endif
}

// ---- Tensor cores. A warp's threads have parts of its matrices (fragments), as the PTX ISA lays them out, "Matrix Fragments for
// mma.m16n8k16 with floating point type" and "ldmatrix"; all threads of the warp have to call these.

/// Loads four matrices of 8 x 8 bf16 from shared memory. `row` is, for thread `8 m + i` of the warp, row `i` of matrix `m`, at a multiple
/// of 16 bytes. Thread `4 r + p` gets of each the values `(r, 2 p)` and `(r, 2 p + 1)`; of the transposes, if they are asked for.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(unsigned (&pairs)[4], const void *row) {
#ifdef FAKECUDA
    assert(uintptr_t(row) % 16 == 0);
    using Row = const unsigned short *;
    const Row *rows = fakecuda_of_warp(static_cast<Row>(row), FAKECUDA_SITE);
    const unsigned r = fakecuda_lane() / 4, c = fakecuda_lane() % 4 * 2;
    for (unsigned m = 0; m < 4; ++m) {
        const auto at = [&](unsigned i, unsigned j) -> unsigned { return rows[8 * m + i][j]; };
        pairs[m] = TRANSPOSED ? at(c, r) | at(c + 1, r) << 16 : at(r, c) | at(r, c + 1) << 16;
    }
#else
    const unsigned from = __cvta_generic_to_shared(row);
    if (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(from)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(from)
                     : "memory");
    }
#endif
}

/// Adds to `sums`, `[16, 8]` in floats, the product of `a`, `[16, 16]`, and `b`, `[16, 8]`, both in bf16. With `r` a fourth of the thread's
/// number in the warp and `c` twice the rest, the thread has
/// - of the sums `(r, c)`, `(r, c + 1)`, `(r + 8, c)` and `(r + 8, c + 1)`,
/// - of `a`, from column `c` on, pairs of row `r`, of row `r + 8`, and both again 8 columns further,
/// - of `b`, in column `r`, pairs from row `c` on, and from row `c + 8`.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#ifdef FAKECUDA
    struct Factors {
        unsigned a[4], b[2];
    };
    const Factors *warp = fakecuda_of_warp(Factors{{a[0], a[1], a[2], a[3]}, {b0, b1}}, FAKECUDA_SITE);
    const auto half = [](unsigned pair, unsigned k) { return __uint_as_float(k % 2 ? pair & 0xffff0000 : pair << 16); };
    const unsigned lane = fakecuda_lane();
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned of_four = k % 8 / 2;
            sums[i] += half(warp[row * 4 + of_four].a[i / 2 + k / 8 * 2], k) * half(warp[column * 4 + of_four].b[k / 8], k);
        }
    }
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
