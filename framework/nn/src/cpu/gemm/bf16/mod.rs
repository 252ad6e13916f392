//! Products of factors that are rounded to bf16; they are added up in `f32`.
//!
//! Both factors are packed in [`block::Block`]s, rounded on the way, a stretch of their inner dimension after the other. A kernel adds up a
//! few blocks of the output at a time. The order in which terms are added depends on the shapes alone.

mod amx;
mod avx512;
mod block;
mod pack;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use amx::is_available as has_tiles;
pub use avx512::is_available as has_vectors;
use block::{LINES, Sums};
use pack::{Order, Packed, Scratch};

use super::instructions::Instructions;
use super::matrix::Matrix;
use super::target::{Segment, Target, Threads, Tile, even_part};
use crate::cpu::Output;
use crate::dry_run::is_dry;

/// Values of the inner dimension that are added up at a time: two rows of blocks of `a` stay in the first cache, the part of `b` that a
/// tile needs in the second.
const DEPTH: usize = 768;

/// Rows of `a` that are packed at a time.
const PACKED_ROWS: usize = 4096;

/// Rows and columns of the largest tiles of the output that one thread computes.
const TILE: [usize; 2] = [512, 192];

/// What the sides of tiles are multiples of: what all kernels compute at a time, but for the last rows and columns.
const UNIT: [usize; 2] = [32, 96];

/// Tiles that keep several threads busy.
const ENOUGH: usize = 8;

/// `target = factor * a b`, or `target += factor * a b`.
///
/// # Panics
/// If the processor does not have the instructions.
pub fn product<F: Fn(Segment<'_>) + Sync>(
    instructions: Instructions,
    mut target: Target<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    assert!(has_vectors() && (instructions != Instructions::Amx || has_tiles()));
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let depth = k.clamp(1, DEPTH);
    let [mut scratch_a, mut scratch_b] = [m.min(PACKED_ROWS), n].map(|lines| Scratch::new(lines, depth));
    if is_dry() {
        return;
    }
    // Of an empty sum a stretch without values is added up.
    for start in (0..k.max(1)).step_by(depth) {
        let stretch = start..(start + depth).min(k);
        let b = scratch_b.pack(b.t(), 0..n, stretch.clone(), Order::Pairs, threads);
        let mode = if start == 0 { mode } else { Output::Add };
        for top in (0..m).step_by(PACKED_ROWS) {
            let rows = top..(top + PACKED_ROWS).min(m);
            let a = scratch_a.pack(a, rows.clone(), stretch.clone(), Order::Lines, threads);
            let shape = tile_shape([rows.len(), n]);
            target.each_tile(rows, shape, threads, |mut tile| {
                let work = Work { instructions, a, first_row: top, b, mode, factor };
                // SAFETY: the processor has the instructions, as checked.
                unsafe { work.tile(&mut tile) };
                if start + depth >= k {
                    tile.finish();
                }
            });
        }
    }
}

/// Rows and columns of the tiles of an output: the same for any number of threads.
fn tile_shape([m, n]: [usize; 2]) -> [usize; 2] {
    let [height, width] = [even_part(m, TILE[0], UNIT[0]), even_part(n, TILE[1], UNIT[1])];
    match m.div_ceil(height) * n.div_ceil(width) {
        ENOUGH.. => [height, width],
        _ => [even_part(m, TILE[0] / 4, UNIT[0]), UNIT[1]],
    }
}

/// What tiles follow from.
#[derive(Clone, Copy)]
struct Work<'a> {
    instructions: Instructions,
    a: Packed<'a>,
    /// The first row that is packed in `a`.
    first_row: usize,
    b: Packed<'a>,
    mode: Output,
    factor: f32,
}

impl Work<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn tile<F: Fn(Segment<'_>)>(&self, tile: &mut Tile<'_, F>) {
        let blocks = |lines: &Range<usize>| lines.start / LINES..lines.end.div_ceil(LINES);
        let rows = blocks(&(tile.rows.start - self.first_row..tile.rows.end - self.first_row));
        let cols = blocks(&tile.cols);
        let mut sums = [const { Sums([[0.0; LINES]; LINES]) }; 4];
        match self.instructions {
            Instructions::Avx512 => {
                for row in rows {
                    for col in cols.clone().step_by(3) {
                        let count = (cols.end - col).min(3);
                        let (a, b) = (self.a.line(row), |at| self.b.line(col + at));
                        match count {
                            3 => avx512::multiply(&mut sums, a, [b(0), b(1), b(2)]),
                            2 => avx512::multiply(&mut sums, a, [b(0), b(1)]),
                            _ => avx512::multiply(&mut sums, a, [b(0)]),
                        }
                        self.write(tile, row, col, &sums[..count]);
                    }
                }
            }
            Instructions::Amx => {
                // SAFETY: the processor and the system have the instructions, as `product` checked.
                let tiles = unsafe { amx::Tiles::configure() };
                for row in rows.clone().step_by(2) {
                    let second_row = (row + 1).min(rows.end - 1);
                    for col in cols.clone().step_by(2) {
                        // At an edge the same is computed twice.
                        let second_col = (col + 1).min(cols.end - 1);
                        let a = [self.a.line(row), self.a.line(second_row)];
                        let b = [self.b.line(col), self.b.line(second_col)];
                        tiles.multiply(&mut sums, a, b);
                        let count = second_col + 1 - col;
                        self.write(tile, row, col, &sums[..count]);
                        if second_row > row {
                            self.write(tile, second_row, col, &sums[2..2 + count]);
                        }
                    }
                }
            }
        }
    }

    /// Writes or adds sums where they belong, as far as the tile goes: those of a block of rows, and of some blocks of columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn write<F: Fn(Segment<'_>)>(&self, tile: &mut Tile<'_, F>, row: usize, col: usize, sums: &[Sums]) {
        let (top, left) = (self.first_row + row * LINES, col * LINES - tile.cols.start);
        for row in top..(top + LINES).min(tile.rows.end) {
            let out = &mut tile.row(row)[left..];
            for (out, sums) in out.chunks_mut(LINES).zip(sums) {
                self.write_line(out, &sums.0[row - top]);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn write_line(&self, out: &mut [f32], sums: &[f32; LINES]) {
        let add = |out: &mut f32, sum: f32| match self.mode {
            Output::Replace => *out = self.factor * sum,
            Output::Add => *out += self.factor * sum,
        };
        match <&mut [f32; LINES]>::try_from(&mut *out) {
            // One vector.
            Ok(out) => out.iter_mut().zip(sums).for_each(|(out, &sum)| add(out, sum)),
            Err(_) => out.iter_mut().zip(sums).for_each(|(out, &sum)| add(out, sum)),
        }
    }
}
