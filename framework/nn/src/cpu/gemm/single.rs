//! Products in `f32`, by the crate `gemm`.

use gemm::Parallelism;
use rayon::prelude::*;

use super::matrix::Matrix;
use super::target::{Segment, Target, Threads, Tile, even_part};
use crate::cpu::simd::vectorized;
use crate::cpu::transpose::transpose;
use crate::cpu::{Buffer, Output, reduce};

/// Rows and columns of the tiles that one thread computes, the best first, where `a` is read as it lies: many rows and few columns keep
/// their part of `b` in the cache. The first that gives enough tiles is taken. Measured on the shapes of the base model and of
/// `quickstart.yaml`.
const TILES: [[usize; 2]; 4] = [[1024, 128], [1024, 64], [512, 64], [256, 64]];

/// The same where `a` is transposed: the crate packs it for each tile anew.
const TILES_OF_TRANSPOSED: [[usize; 2]; 4] = [[512, 256], [256, 256], [128, 256], [128, 128]];

/// What the sides of tiles are multiples of.
const UNIT: usize = 16;

/// Tiles that keep several threads busy.
const ENOUGH: usize = 8;

/// Terms of a sum that are worth a tile of their own, where there are too few.
const STRETCH: usize = 512;

/// Rows of a tile from which on it pays to copy the columns of a transposed `b` to row-major order first, which the crate does slowly.
const STRAIGHTENED: usize = 128;

/// `target = factor * a b`, or `target += factor * a b`.
pub fn product<F: Fn(Segment<'_>) + Sync>(
    mut target: Target<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    let (shape, stretches) = match threads {
        Threads::One => (target.shape(), 1),
        Threads::All => partition(target.shape(), a),
    };
    if stretches > 1 {
        return sum_of_stretches(target, mode, factor, a, b, (shape, stretches));
    }
    target.each_tile(0..a.rows, shape, threads, |mut tile| {
        multiply(&mut tile, mode, factor, a, b);
        tile.finish();
    });
}

/// [`product`] with all threads, where there are few tiles and long sums: these are computed in stretches at the same time, which are then
/// added in their order.
fn sum_of_stretches<F: Fn(Segment<'_>) + Sync>(
    mut target: Target<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    (shape, stretches): ([usize; 2], usize),
) {
    let ([m, n], len) = (target.shape(), a.cols.div_ceil(stretches));
    let mut sums = Buffer::unspecified(stretches * m * n);
    sums.par_chunks_mut(m * n).enumerate().for_each(|(at, sums)| {
        let terms = at * len..((at + 1) * len).min(a.cols);
        let (a, b) = (a.cols(terms.clone()), b.t().cols(terms).t());
        let mut target = Target::new(sums, &mut [], [m, n], None::<fn(Segment<'_>)>);
        target.each_tile(0..m, shape, Threads::All, |mut tile| {
            multiply(&mut tile, Output::Replace, factor, a, b);
        });
    });
    target.each_tile(0..m, shape, Threads::All, |mut tile| {
        for row in tile.rows.clone() {
            let (start, out) = (row * n + tile.cols.start, tile.row(row));
            for (at, sums) in sums.chunks_exact(m * n).enumerate() {
                let sums = &sums[start..][..out.len()];
                match mode {
                    Output::Replace if at == 0 => out.copy_from_slice(sums),
                    _ => vectorized(|| reduce::add(out, sums)),
                }
            }
        }
        tile.finish();
    });
}

/// Rows and columns of the tiles of an output, and in how many stretches its sums are computed: the same for any number of threads.
fn partition([m, n]: [usize; 2], a: Matrix<'_>) -> ([usize; 2], usize) {
    let (shapes, stretches) = match a.col_stride {
        1 => (TILES, 1),
        _ => (TILES_OF_TRANSPOSED, (a.cols / STRETCH).max(1)),
    };
    let mut partition = ([m, n], 1);
    for [height, width] in shapes {
        let shape = [even_part(m, height, UNIT), even_part(n, width, UNIT)];
        let tiles = m.div_ceil(shape[0]) * n.div_ceil(shape[1]);
        partition = (shape, stretches.min(ENOUGH.div_ceil(tiles)));
        if tiles * partition.1 >= ENOUGH {
            break;
        }
    }
    partition
}

/// A tile of the product.
fn multiply<F: Fn(Segment<'_>)>(
    tile: &mut Tile<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let cols = tile.cols.clone();
    if b.col_stride > 1 && b.row_stride == 1 && tile.rows.len() >= STRAIGHTENED {
        let line = |col: usize| &b.values[col * b.col_stride..][..b.rows];
        let straight = transpose(&cols.clone().map(line).collect::<Vec<_>>());
        multiply_by(tile, mode, factor, a, Matrix::new(&straight, b.rows, cols.len()));
    } else {
        multiply_by(tile, mode, factor, a, b.cols(cols));
    }
}

/// A tile of the product, with the columns of `b` that it needs.
fn multiply_by<F: Fn(Segment<'_>)>(
    tile: &mut Tile<'_, F>,
    mode: Output,
    factor: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let (rows, (out, row_stride)) = (tile.rows.clone(), tile.start());
    assert_eq!((b.rows, b.cols), (a.cols, tile.cols.len()));
    let a_values = a.values.get(rows.start * a.row_stride..).unwrap_or_default();
    // SAFETY: the tile is this thread's alone and overlaps neither input. A `Matrix` holds, as checked when it was made, all elements up
    // to `(rows - 1, cols - 1)`, transposed or not: also those from the first row of `a` in this tile on. Of an empty sum nothing is
    // read.
    unsafe {
        gemm::gemm(
            rows.len(),
            b.cols,
            a.cols,
            out,
            1,
            row_stride as isize,
            mode == Output::Add,
            a_values.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
