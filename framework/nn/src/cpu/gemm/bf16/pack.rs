//! Factors in blocks of bf16.

use std::arch::x86_64::{
    __m512i, __mmask16, _mm512_cvtne2ps_pbh, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::ops::Range;

use rayon::prelude::*;

use super::block::{Block, LINES, PAIRS, VALUES};
use crate::cpu::Buffer;
use crate::cpu::gemm::matrix::Matrix;
use crate::cpu::gemm::target::Threads;

/// Lines of blocks that are packed together: where their values are a column of the matrix, that many cache lines of a row are read.
const TOGETHER: usize = 4;

/// How the pairs in a block follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those of a line.
    Lines,
    /// Those at the same place of all lines.
    Pairs,
}

/// Packed lines, a line of blocks after the other.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    blocks: &'a [Block],
    /// Blocks of a line.
    depth: usize,
}

impl<'a> Packed<'a> {
    /// The blocks of 16 lines.
    #[inline]
    pub fn line(self, at: usize) -> &'a [Block] {
        &self.blocks[at * self.depth..][..self.depth]
    }
}

/// Memory for packed lines.
pub struct Scratch(Buffer);

impl Scratch {
    /// For so many lines of so many values.
    pub fn new(lines: usize, values: usize) -> Self {
        let blocks = lines.div_ceil(LINES) * values.div_ceil(VALUES);
        Self(Buffer::unspecified((blocks * size_of::<Block>() + align_of::<Block>()) / size_of::<f32>()))
    }

    /// Packs some rows of a matrix, of each the values in `stretch`, rounded to the nearest bf16, and of two the one that ends with 0. What is
    /// missing in blocks is zero.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn pack(
        &mut self,
        matrix: Matrix<'_>,
        lines: Range<usize>,
        stretch: Range<usize>,
        order: Order,
        threads: Threads,
    ) -> Packed<'_> {
        assert!(lines.end <= matrix.rows && stretch.end <= matrix.cols);
        assert!(matrix.row_stride == 1 || matrix.col_stride == 1, "neither rows nor columns are contiguous");
        let depth = stretch.len().max(1).div_ceil(VALUES);
        // SAFETY: blocks are numbers, which may be any.
        let blocks = unsafe { self.0.align_to_mut::<Block>() }.1;
        let blocks = &mut blocks[..lines.len().div_ceil(LINES) * depth];
        let group = |(at, blocks): (usize, &mut [Block])| {
            let start = lines.start + at * TOGETHER * LINES;
            let group = Group { matrix, lines: start..lines.end, stretch: stretch.clone(), order };
            // SAFETY: the processor has the instructions, as `product` checked.
            unsafe { group.pack(blocks, depth) };
        };
        match threads {
            Threads::One => blocks.chunks_mut(TOGETHER * depth).enumerate().for_each(group),
            Threads::All => blocks.par_chunks_mut(TOGETHER * depth).enumerate().for_each(group),
        }
        Packed { blocks, depth }
    }
}

/// Lines that are packed together.
struct Group<'a> {
    matrix: Matrix<'a>,
    /// From the first one on.
    lines: Range<usize>,
    stretch: Range<usize>,
    order: Order,
}

impl Group<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn pack(&self, blocks: &mut [Block], depth: usize) {
        let Matrix { values, row_stride, col_stride, .. } = self.matrix;
        // A column of one value has any stride.
        let native = if col_stride == 1 { Order::Lines } else { Order::Pairs };
        for at in 0..depth {
            let from = self.stretch.start + at * VALUES;
            let values_left = (self.stretch.end - from.min(self.stretch.end)).min(VALUES);
            for (line, blocks) in blocks.chunks_exact_mut(depth).enumerate() {
                let first = self.lines.start + line * LINES;
                let part = Part {
                    first: values.as_ptr().wrapping_add(first * row_stride + from * col_stride),
                    lines: (self.lines.end - first).min(LINES),
                    values: values_left,
                };
                // SAFETY: the lines and values of the part are in the matrix, which holds them all, as checked when it was made.
                let words = unsafe {
                    match native {
                        Order::Lines => part.lines(row_stride),
                        Order::Pairs => part.pairs(col_stride),
                    }
                };
                let words = if native == self.order { words } else { transposed(&words) };
                for (to, words) in blocks[at].0.iter_mut().zip(words) {
                    // SAFETY: these words are as many as a vector holds.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) };
                }
            }
        }
    }
}

/// Of a matrix what goes to a block.
struct Part {
    first: *const f32,
    lines: usize,
    values: usize,
}

impl Part {
    /// Words line by line, where the values of a line are contiguous.
    ///
    /// # Safety
    /// There are so many lines and values, with `stride` values from a line to the next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn lines(&self, stride: usize) -> [__m512i; LINES] {
        let [low, high] = [mask(self.values), mask(self.values.saturating_sub(PAIRS))];
        std::array::from_fn(|line| {
            let there = if line < self.lines { __mmask16::MAX } else { 0 };
            let from = self.first.wrapping_add(line * stride);
            // SAFETY: what the masks leave is there, as the caller says; nothing else is read.
            unsafe { rounded(from, low & there, from.wrapping_add(PAIRS), high & there) }
        })
    }

    /// Words pair by pair, where the values of a column of lines are contiguous.
    ///
    /// # Safety
    /// There are so many lines and values, with `stride` values from a value of a line to the next.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn pairs(&self, stride: usize) -> [__m512i; PAIRS] {
        /// From each half one value in turn.
        const TURNS: [u16; VALUES] = {
            let mut turns = [0; VALUES];
            let mut at = 0;
            while at < VALUES {
                turns[at] = (at / 2 + at % 2 * PAIRS) as u16;
                at += 1;
            }
            turns
        };
        // SAFETY: both are 64 bytes, which may be any.
        let turns: __m512i = unsafe { std::mem::transmute(TURNS) };
        std::array::from_fn(|pair| {
            let there = |value: usize| if value < self.values { mask(self.lines) } else { 0 };
            let (first, second) = (2 * pair, 2 * pair + 1);
            let [from, behind] = [first, second].map(|value| self.first.wrapping_add(value * stride));
            // SAFETY: what the masks leave is there, as the caller says; nothing else is read.
            let halves = unsafe { rounded(from, there(first), behind, there(second)) };
            _mm512_permutexvar_epi16(turns, halves)
        })
    }
}

/// The first `count` of 16 values.
#[inline]
fn mask(count: usize) -> __mmask16 {
    ((1_u32 << count.min(16)) - 1) as __mmask16
}

/// Two vectors in bf16, one after the other; zero where the masks leave nothing.
///
/// # Safety
/// What the masks leave can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rounded(low: *const f32, low_mask: __mmask16, high: *const f32, high_mask: __mmask16) -> __m512i {
    // SAFETY: as the caller says; vectors of 64 bytes may hold any.
    unsafe {
        let (low, high) = (_mm512_maskz_loadu_ps(low_mask, low), _mm512_maskz_loadu_ps(high_mask, high));
        std::mem::transmute(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Rows of words to columns: by pairs, fours, eights and all.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn transposed(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = *rows;
    for at in (0..16).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // In the lanes of `fours[4 * i + j]`: column `4 * lane + j` of rows `4 * i` and the next three.
    let mut fours = pairs;
    for at in (0..16).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut columns = fours;
    for at in 0..4 {
        let [a, b, c, d] = [fours[at], fours[at + 4], fours[at + 8], fours[at + 12]];
        let (even_top, odd_top) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        columns[at] = _mm512_shuffle_i32x4::<0x88>(even_top, even);
        columns[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd_top, odd);
        columns[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even_top, even);
        columns[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd_top, odd);
    }
    columns
}
