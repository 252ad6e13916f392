//! Products in `f32`, by the crate `gemm`.

use gemm::Parallelism;

use super::matrix::Matrix;
use super::target::{Segment, Target, Threads, Tile, even_part};
use crate::cpu::Output;
use crate::cpu::transpose::transpose;

/// Rows of the largest tiles of the output that one thread computes. Many rows and few columns keep their part of `b` in the cache.
const TILE_ROWS: usize = 1024;

/// Columns of the tiles, where there are enough of them for several threads; else half of that. Measured on the shapes of the base
/// model: wider and narrower ones are slower.
const TILE_COLS: usize = 128;

/// What the sides of tiles are multiples of.
const UNIT: usize = 16;

/// Tiles that keep several threads busy.
const ENOUGH: usize = 8;

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
    let shape = match threads {
        Threads::One => target.shape(),
        Threads::All => tile_shape(target.shape()),
    };
    target.each_tile(0..a.rows, shape, threads, |mut tile| {
        let (cols, height) = (tile.cols.clone(), tile.rows.len());
        if b.col_stride > 1 && b.row_stride == 1 && height >= STRAIGHTENED {
            let line = |col: usize| &b.values[col * b.col_stride..][..b.rows];
            let straight = transpose(&cols.clone().map(line).collect::<Vec<_>>());
            multiply(&mut tile, mode, factor, a, Matrix::new(&straight, b.rows, cols.len()));
        } else {
            let values = b.values.get(cols.start * b.col_stride..).unwrap_or_default();
            multiply(&mut tile, mode, factor, a, Matrix { values, cols: cols.len(), ..b });
        }
        tile.finish();
    });
}

/// Rows and columns of the tiles of an output: the same for any number of threads.
fn tile_shape([m, n]: [usize; 2]) -> [usize; 2] {
    let (height, width) = (even_part(m, TILE_ROWS, UNIT), even_part(n, TILE_COLS, UNIT));
    match m.div_ceil(height) * n.div_ceil(width) {
        ENOUGH.. => [height, width],
        _ => [height, even_part(n, TILE_COLS / 2, UNIT)],
    }
}

/// A tile of the product, with the columns of `b` that it needs.
fn multiply<F: Fn(Segment<'_>)>(
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
