//! The kernel of AVX512-BF16.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::block::{Block, LINES, PAIRS, Sums};

/// Rows that are computed together: with three vectors of columns their sums fit in the registers, besides a row of `b` and a pair of `a`.
const ROWS: usize = 8;

/// Whether the processor has the instructions of this kernel, and those that pack.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// The products of blocks of `a`, line by line, with those of `C` columns of blocks of `b`, pair by pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub fn multiply<const C: usize>(sums: &mut [Sums], a: &[Block], b: [&[Block]; C]) {
    let b = b.map(|b| &b[..a.len()]);
    for top in (0..LINES).step_by(ROWS) {
        let mut rows = [[_mm512_setzero_ps(); C]; ROWS];
        for (at, a) in a.iter().enumerate() {
            for pair in 0..PAIRS {
                let b = b.map(|b| in_bf16(load(&b[at].0[pair])));
                for (row, sums) in rows.iter_mut().enumerate() {
                    let a = in_bf16(_mm512_set1_epi32(a.0[top + row][pair].cast_signed()));
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = _mm512_dpbf16_ps(*sum, a, b);
                    }
                }
            }
        }
        for (row, values) in rows.iter().enumerate() {
            for (sums, &values) in sums.iter_mut().zip(values) {
                let to = &mut sums.0[top + row];
                // SAFETY: a row of sums is as long as a vector.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; 16]) -> __m512i {
    // SAFETY: the words are as many as a vector holds.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn in_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are vectors of 64 bytes, which may be any.
    unsafe { std::mem::transmute(words) }
}
