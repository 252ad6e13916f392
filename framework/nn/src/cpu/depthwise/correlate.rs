//! The output and the gradient of the input: features correlated with a kernel.

// Unrolled, the loops compare constants.
#![allow(clippy::absurd_extreme_comparisons)]

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::Buffer;
use super::super::simd::prefetch;
use super::square::{Aligned, Lanes, Rows, Square, mul_add, unroll, with_shifts};
use super::squares::{Depthwise, Operation, squares};
use super::surroundings::{Column, Map, Surroundings};

/// Padded features `x` correlated with a kernel `[C, K, K]`, plus a bias `[C]`.
pub struct Correlate<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    /// Whether the kernel is read from its end.
    pub flipped: bool,
    pub bias: Option<&'a [f32]>,
}

impl Correlate<'_> {
    /// `[C / block][K * K][block]`, zeros for the padding, with the channels of `W` vectors in a block.
    fn taps<S: Simd, const W: usize>(&self, simd: S, conv: &Depthwise<'_>) -> Vec<Aligned<Lanes<S, W>>> {
        let (taps, block) = (conv.kernel * conv.kernel, W * S::F32_LANES);
        assert_eq!(self.weight.len(), conv.channels * taps);
        let mut packed = vec![Aligned([simd.splat_f32s(0.0); W]); conv.width() / block * taps];
        for (channel, weight) in self.weight.chunks_exact(taps).enumerate() {
            let packed = &mut packed[channel / block * taps..][..taps];
            for (tap, &weight) in weight.iter().enumerate() {
                let place = if self.flipped { taps - 1 - tap } else { tap };
                cast_slice_mut(&mut packed[place].0)[channel % block] = weight;
            }
        }
        packed
    }
}

impl Operation for Correlate<'_> {
    type Output = Buffer;

    fn run<S: Simd, const SIDE: usize, const W: usize>(self, simd: S, conv: &Depthwise<'_>) -> Buffer {
        assert!(self.bias.is_none_or(|bias| bias.len() == conv.channels));
        let mut bias = self.bias.map_or_else(Vec::new, <[f32]>::to_vec);
        bias.resize(conv.width(), 0.0);
        let task = CorrelateTask::<S, SIDE, W> {
            conv,
            x: Rows::new(self.x, conv.width()),
            taps: &self.taps(simd, conv),
            bias: Rows::new(&bias, conv.width()),
            map: &Map::new(conv.layout, Surroundings::<SIDE>::border(conv.kernel)),
        };
        let mut output = Buffer::unspecified(self.x.len());
        let patch_len = conv.layout.cell * conv.layout.cell * conv.width();
        output.par_chunks_exact_mut(patch_len).enumerate().for_each_init(
            || Surroundings::new(conv.kernel),
            |surroundings, (patch, output)| {
                simd.vectorize(CorrelatePatch { task: &task, simd, patch, surroundings, output });
            },
        );
        output
    }
}

/// What the patches of a [`Correlate`] share.
struct CorrelateTask<'a, S: Simd, const SIDE: usize, const W: usize> {
    conv: &'a Depthwise<'a>,
    x: Rows<'a, S, W>,
    taps: &'a [Aligned<Lanes<S, W>>],
    bias: Rows<'a, S, W>,
    map: &'a Map,
}

/// Writes all of the output `[cell * cell, C]` of a patch.
struct CorrelatePatch<'a, S: Simd, const SIDE: usize, const W: usize> {
    task: &'a CorrelateTask<'a, S, SIDE, W>,
    simd: S,
    patch: usize,
    surroundings: &'a mut Surroundings<SIDE>,
    output: &'a mut [f32],
}

impl<S: Simd, const SIDE: usize, const W: usize> WithSimd for CorrelatePatch<'_, S, SIDE, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<Same: Simd>(self, _: Same) {
        let Self { task, simd, patch, surroundings, output } = self;
        let CorrelateTask { conv, x, taps, bias, map } = task;
        let (cell, width, kernel) = (conv.layout.cell, conv.width(), conv.kernel);
        let block_len = W * S::F32_LANES;
        let patch_blocks = cell * cell * width / block_len;
        let mut done = 0;
        for (row, col) in squares::<SIDE>(cell) {
            surroundings.locate(map, patch, (row, col));
            for (block, taps) in taps.chunks_exact(kernel * kernel).enumerate() {
                x.prefetch((patch + conv.ahead()) * patch_blocks + done, SIDE * SIDE);
                prefetch(
                    output.as_ptr().wrapping_add((patch_blocks + done) * block_len),
                    SIDE * SIDE * block_len,
                );
                done += SIDE * SIDE;
                let sums = [[bias.get(0, block); SIDE]; SIDE];
                let sums = correlate(simd, x, block, &surroundings.columns, taps, kernel, sums);
                for (line, sums) in sums.iter().enumerate() {
                    let first = (row + line) * cell + col;
                    for (position, sum) in sums.iter().enumerate() {
                        let start = (first + position) * width + block * block_len;
                        output[start..][..block_len].copy_from_slice(cast_slice(sum));
                    }
                }
            }
        }
    }
}

/// Adds the correlation of the surroundings with the taps, `[K, K]`, to the sums of a square.
#[inline(always)]
fn correlate<S: Simd, const SIDE: usize, const W: usize>(
    simd: S,
    x: &Rows<'_, S, W>,
    block: usize,
    columns: &[Column],
    taps: &[Aligned<Lanes<S, W>>],
    kernel: usize,
    mut sums: Square<S, SIDE, W>,
) -> Square<S, SIDE, W> {
    for column in columns {
        let sums = &mut sums;
        with_shifts!(
            column.shifts,
            correlate_column::<S, SIDE, W>(simd, x, block, column, taps, kernel, sums)
        );
    }
    sums
}

/// The same for one column, whose shifts are `START..END`.
#[inline(always)]
fn correlate_column<S: Simd, const SIDE: usize, const W: usize, const START: usize, const END: usize>(
    simd: S,
    x: &Rows<'_, S, W>,
    block: usize,
    column: &Column,
    taps: &[Aligned<Lanes<S, W>>],
    kernel: usize,
    sums: &mut Square<S, SIDE, W>,
) {
    for &(line, row) in &column.present {
        let x = x.line::<SIDE>(simd, row, block, (START + 1).saturating_sub(SIDE), END);
        unroll!(Y in [0 1 2 3] {
            let tap = line.wrapping_sub(Y);
            if Y < SIDE && tap < kernel {
                let taps = &taps[tap * kernel + column.tap..][..END - START];
                unroll!(SHIFT in [0 1 2 3 4 5 6] {
                    if START <= SHIFT && SHIFT < END {
                        unroll!(X in [0 1 2 3] {
                            if X < SIDE && SIDE <= X + SHIFT + 1 && X + SHIFT + 1 < 2 * SIDE {
                                mul_add(simd, &mut sums[Y][X], &x[X + SHIFT + 1 - SIDE], &taps[SHIFT - START].0);
                            }
                        });
                    }
                });
            }
        });
    }
}
