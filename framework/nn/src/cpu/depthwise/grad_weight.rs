//! The gradient of the weight.

// Unrolled, the loops compare constants.
#![allow(clippy::absurd_extreme_comparisons)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::chunks::sum_chunks;
use super::square::{Lanes, Rows, Square, mul_add, unroll, with_shifts};
use super::squares::{Depthwise, Operation, squares};
use super::surroundings::{Column, Map, Surroundings};

/// Patches whose gradients are summed up by one task.
const PATCHES: usize = 16;

/// The gradient of the weight from padded features and the padded gradient of the output.
pub struct GradWeight<'a> {
    pub x: &'a [f32],
    pub grad: &'a [f32],
}

impl Operation for GradWeight<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd, const SIDE: usize, const W: usize>(self, simd: S, conv: &Depthwise<'_>) -> Vec<f32> {
        let (taps, block, patches) = (conv.kernel * conv.kernel, W * S::F32_LANES, conv.layout.ids.len());
        let task = GradWeightTask::<S, SIDE, W> {
            conv,
            x: Rows::new(self.x, conv.width()),
            grad: Rows::new(self.grad, conv.width()),
            map: &Map::new(conv.layout, Surroundings::<SIDE>::border(conv.kernel)),
        };
        let packed = sum_chunks(patches.div_ceil(PATCHES), conv.width() * taps, |chunks, sums| {
            let patches = chunks.start * PATCHES..(chunks.end * PATCHES).min(patches);
            simd.vectorize(AddGradWeight { task: &task, simd, patches, sums });
        });
        let mut weight = vec![0.0; conv.channels * taps];
        for (channel, weight) in weight.chunks_exact_mut(taps).enumerate() {
            let packed = packed[channel / block * taps * block..].chunks_exact(block);
            for (weight, packed) in weight.iter_mut().zip(packed) {
                *weight = packed[channel % block];
            }
        }
        weight
    }
}

/// What the chunks of a [`GradWeight`] share.
struct GradWeightTask<'a, S: Simd, const SIDE: usize, const W: usize> {
    conv: &'a Depthwise<'a>,
    x: Rows<'a, S, W>,
    grad: Rows<'a, S, W>,
    map: &'a Map,
}

/// Adds what some patches say about the taps to sums, `[C / block][K * K][block]`.
struct AddGradWeight<'a, S: Simd, const SIDE: usize, const W: usize> {
    task: &'a GradWeightTask<'a, S, SIDE, W>,
    simd: S,
    patches: Range<usize>,
    sums: &'a mut [f32],
}

impl<S: Simd, const SIDE: usize, const W: usize> WithSimd for AddGradWeight<'_, S, SIDE, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<Same: Simd>(self, _: Same) {
        let Self { task: GradWeightTask { conv, x, grad, map }, simd, patches, sums } = self;
        let (cell, kernel) = (conv.layout.cell, conv.kernel);
        let patch_blocks = cell * cell * conv.width() / (W * S::F32_LANES);
        let (sums, _) = S::as_mut_simd_f32s(sums).0.as_chunks_mut();
        let mut surroundings = Surroundings::<SIDE>::new(kernel);
        for patch in patches {
            let mut done = 0;
            for (row, col) in squares::<SIDE>(cell) {
                surroundings.locate(map, patch, (row, col));
                let own = (patch * cell + row) * cell + col;
                for (block, sums) in sums.chunks_exact_mut(kernel * kernel).enumerate() {
                    x.prefetch((patch + conv.ahead()) * patch_blocks + done, SIDE * SIDE);
                    grad.prefetch((patch + 1) * patch_blocks + done, SIDE * SIDE);
                    done += SIDE * SIDE;
                    let mut own_grad = [[[simd.splat_f32s(0.0); W]; SIDE]; SIDE];
                    for (line, own_grad) in own_grad.iter_mut().enumerate() {
                        *own_grad = grad.line(simd, own + line * cell, block, 0, SIDE);
                    }
                    add_grad_weight(simd, x, block, &surroundings.columns, &own_grad, kernel, sums);
                }
            }
        }
    }
}

/// Adds what the output gradient of a square says about the taps to `sums`, `[K, K]`.
#[inline(always)]
fn add_grad_weight<S: Simd, const SIDE: usize, const W: usize>(
    simd: S,
    x: &Rows<'_, S, W>,
    block: usize,
    columns: &[Column],
    grad: &Square<S, SIDE, W>,
    kernel: usize,
    sums: &mut [Lanes<S, W>],
) {
    for column in columns {
        let sums = &mut *sums;
        with_shifts!(column.shifts, grad_column::<S, SIDE, W>(simd, x, block, column, grad, kernel, sums));
    }
}

/// The same for one column, whose shifts are `START..END`.
#[inline(always)]
fn grad_column<S: Simd, const SIDE: usize, const W: usize, const START: usize, const END: usize>(
    simd: S,
    x: &Rows<'_, S, W>,
    block: usize,
    column: &Column,
    grad: &Square<S, SIDE, W>,
    kernel: usize,
    sums: &mut [Lanes<S, W>],
) {
    for (lines, sums) in column.lines.windows(SIDE).zip(sums.chunks_exact_mut(kernel)) {
        if lines.iter().all(Option::is_none) {
            continue;
        }
        let sums = &mut sums[column.tap..][..END - START];
        // A sum for each shift, up to `2 * SIDE - 1`.
        let mut own_sums = [[simd.splat_f32s(0.0); W]; 7];
        unroll!(Y in [0 1 2 3] {
            if Y < SIDE && let Some(row) = lines[Y] {
                let x = x.line::<SIDE>(simd, row as usize, block, (START + 1).saturating_sub(SIDE), END);
                unroll!(SHIFT in [0 1 2 3 4 5 6] {
                    if START <= SHIFT && SHIFT < END {
                        unroll!(X in [0 1 2 3] {
                            if X < SIDE && SIDE <= X + SHIFT + 1 && X + SHIFT + 1 < 2 * SIDE {
                                mul_add(simd, &mut own_sums[SHIFT], &x[X + SHIFT + 1 - SIDE], &grad[Y][X]);
                            }
                        });
                    }
                });
            }
        });
        unroll!(SHIFT in [0 1 2 3 4 5 6] {
            if START <= SHIFT && SHIFT < END {
                for (sum, own) in sums[SHIFT - START].iter_mut().zip(own_sums[SHIFT]) {
                    *sum = simd.add_f32s(*sum, own);
                }
            }
        });
    }
}
