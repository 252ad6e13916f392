//! Rows of whole vectors, without gaps.

use pulp::{Simd, bytemuck};

use super::Rows;
use crate::nn::kernels::Buffer;

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
#[inline(always)]
pub fn pack_rows<S: Simd>(simd: S, packed: &mut [S::f32s], rows: Rows<'_>, from: usize, factor: f32) {
    for (i, packed) in packed.chunks_exact_mut(vectors::<S>(rows.dim)).enumerate() {
        pack(simd, packed, rows.row(from + i), factor);
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

/// Writes packed rows where they belong.
#[inline(always)]
pub fn unpack_rows<S: Simd>(simd: S, rows: &mut [&mut [f32]], packed: &[S::f32s], factor: f32) {
    let width = rows.first().map_or(1, |row| vectors::<S>(row.len()));
    for (row, packed) in rows.iter_mut().zip(packed.chunks_exact(width)) {
        unpack(simd, row, packed, factor);
    }
}

/// Packs the first `count` rows as columns, times `factor`. What is behind them in the last vectors becomes zero.
#[inline(always)]
pub fn pack_columns<S: Simd>(simd: S, packed: &mut [S::f32s], rows: Rows<'_>, count: usize, factor: f32) {
    /// Of the squares that are transposed in registers.
    const SIDE: usize = 4;

    let width = vectors::<S>(count);
    for last in packed.iter_mut().skip(width - 1).step_by(width) {
        *last = simd.splat_f32s(0.0);
    }
    let width = width * S::F32_LANES;
    let packed: &mut [f32] = bytemuck::cast_slice_mut(packed);
    let (whole_rows, whole_columns) = (count - count % SIDE, rows.dim - rows.dim % SIDE);
    for first in (0..whole_rows).step_by(SIDE) {
        let mut lines = [&[[0.0_f32; SIDE]][..]; SIDE];
        for (r, line) in lines.iter_mut().enumerate() {
            *line = rows.row(first + r).as_chunks().0;
        }
        for (k, packed) in packed.chunks_exact_mut(SIDE * width).enumerate().take(rows.dim / SIDE) {
            let square = [lines[0][k], lines[1][k], lines[2][k], lines[3][k]];
            for c in 0..SIDE {
                let packed = &mut packed[c * width + first..][..SIDE];
                for (packed, row) in packed.iter_mut().zip(&square) {
                    *packed = row[c] * factor;
                }
            }
        }
    }
    for i in 0..count {
        let done = if i < whole_rows { whole_columns } else { 0 };
        for (k, value) in rows.row(i).iter().enumerate().skip(done) {
            packed[k * width + i] = value * factor;
        }
    }
}
