//! Rows of whole vectors, without gaps.

use pulp::{Simd, bytemuck};

use super::heads::Rows;
use crate::cpu::Buffer;

/// Values in a cache line.
const LINE: usize = 16;

/// Vectors that hold `len` values.
#[inline(always)]
pub fn vectors<S: Simd>(len: usize) -> usize {
    len.div_ceil(S::F32_LANES)
}

/// A buffer that [`split`] divides into parts of so many vectors.
pub fn buffer<S: Simd>(lens: &[usize]) -> Buffer {
    Buffer::unspecified(lens.iter().sum::<usize>() * S::F32_LANES + LINE)
}

/// Divides a buffer into parts of so many vectors, from the start of a cache line on.
#[inline(always)]
pub fn split<S: Simd, const PARTS: usize>(
    buffer: &mut Buffer,
    lens: [usize; PARTS],
) -> [&mut [S::f32s]; PARTS] {
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let mut rest = S::as_mut_simd_f32s(&mut buffer[start..]).0;
    lens.map(|len| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        part
    })
}

/// Packs a row, times `factor`. What is behind it in the last vector becomes zero.
///
/// With a factor even where that is one: otherwise this is compiled to a call of `memcpy`, which takes longer than the row.
#[inline(always)]
pub fn pack<S: Simd>(simd: S, packed: &mut [S::f32s], row: &[f32], factor: f32) {
    let factor = simd.splat_f32s(factor);
    let (vectors, rest) = S::as_simd_f32s(row);
    for (packed, &vector) in packed.iter_mut().zip(vectors) {
        *packed = simd.mul_f32s(vector, factor);
    }
    if !rest.is_empty() {
        packed[vectors.len()] = simd.mul_f32s(simd.partial_load_f32s(rest), factor);
    }
}

/// Packs rows from `from` on, as many as there is room for.
///
/// All at once: rows are far apart, so each is a miss of the cache, which only waits for memory together with others.
#[inline(always)]
pub fn pack_rows<S: Simd>(simd: S, packed: &mut [S::f32s], rows: Rows<'_>, from: usize) {
    for (i, packed) in packed.chunks_exact_mut(vectors::<S>(rows.dim)).enumerate() {
        pack(simd, packed, rows.row(from + i), 1.0);
    }
}

/// Writes a packed row, times `factor`, where it belongs.
#[inline(always)]
pub fn unpack<S: Simd>(simd: S, row: &mut [f32], packed: &[S::f32s], factor: f32) {
    let factor = simd.splat_f32s(factor);
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for (vector, &packed) in vectors.iter_mut().zip(packed) {
        *vector = simd.mul_f32s(packed, factor);
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, simd.mul_f32s(packed[vectors.len()], factor));
    }
}

/// Writes packed rows, times `factor`, where they belong.
#[inline(always)]
pub fn unpack_rows<S: Simd>(simd: S, rows: &mut [&mut [f32]], packed: &[S::f32s], factor: f32) {
    let width = rows.first().map_or(1, |row| vectors::<S>(row.len()));
    for (row, packed) in rows.iter_mut().zip(packed.chunks_exact(width)) {
        unpack(simd, row, packed, factor);
    }
}

/// The columns of packed rows of `dim` values as packed rows, times `factor`. What is behind them in the last vectors becomes zero.
#[inline(always)]
pub fn transpose<S: Simd>(simd: S, columns: &mut [S::f32s], rows: &[S::f32s], dim: usize, factor: f32) {
    /// Of the squares that are transposed in registers.
    const SIDE: usize = 4;

    let (stride, count) = (vectors::<S>(dim) * S::F32_LANES, rows.len() / vectors::<S>(dim));
    let width = vectors::<S>(count);
    for last in columns.iter_mut().skip(width - 1).step_by(width) {
        *last = simd.splat_f32s(0.0);
    }
    let width = width * S::F32_LANES;
    let (columns, rows): (&mut [f32], &[f32]) =
        (bytemuck::cast_slice_mut(columns), bytemuck::cast_slice(rows));
    let (whole_rows, whole_columns) = (count - count % SIDE, dim - dim % SIDE);
    for first in (0..whole_rows).step_by(SIDE) {
        let mut lines = [&[[0.0_f32; SIDE]][..]; SIDE];
        for (r, line) in lines.iter_mut().enumerate() {
            *line = rows[(first + r) * stride..][..dim].as_chunks().0;
        }
        for (k, columns) in columns.chunks_exact_mut(SIDE * width).enumerate().take(dim / SIDE) {
            let square = [lines[0][k], lines[1][k], lines[2][k], lines[3][k]];
            for c in 0..SIDE {
                let column = &mut columns[c * width + first..][..SIDE];
                for (value, row) in column.iter_mut().zip(&square) {
                    *value = row[c] * factor;
                }
            }
        }
    }
    for (i, row) in rows.chunks_exact(stride).enumerate() {
        let done = if i < whole_rows { whole_columns } else { 0 };
        for (k, value) in row[..dim].iter().enumerate().skip(done) {
            columns[k * width + i] = value * factor;
        }
    }
}
