//! Columns to rows.

use super::Buffer;

/// Side of the squares that are transposed at a time: as many lines as a set of the cache holds, for lines a large power of two apart
/// all fall into the same set.
const SIDE: usize = 8;

type Square = [[f32; SIDE]; SIDE];

/// Lines of equal length as the columns of a row-major matrix, `[length, lines.len()]`.
pub fn transpose(lines: &[&[f32]]) -> Buffer {
    let (width, length) = (lines.len(), lines.first().map_or(0, |line| line.len()));
    assert!(lines.iter().all(|line| line.len() == length));
    let mut output = Buffer::unspecified(width * length);
    let whole = (width - width % SIDE, length - length % SIDE);
    for start in (0..whole.1).step_by(SIDE) {
        let rows = &mut output[start * width..][..SIDE * width];
        for first in (0..whole.0).step_by(SIDE) {
            let mut square: Square = [[0.0; SIDE]; SIDE];
            for (values, line) in square.iter_mut().zip(&lines[first..]) {
                values.copy_from_slice(&line[start..][..SIDE]);
            }
            transpose_square(&mut square);
            for (row, values) in rows.chunks_exact_mut(width).zip(&square) {
                row[first..][..SIDE].copy_from_slice(values);
            }
        }
    }
    for (at, row) in output.chunks_exact_mut(width).enumerate() {
        let done = if at < whole.1 { whole.0 } else { 0 };
        for (value, line) in row[done..].iter_mut().zip(&lines[done..]) {
            *value = line[at];
        }
    }
    output
}

#[inline]
fn transpose_square(square: &mut Square) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the machine has the feature, as just checked.
        return unsafe { transpose_square_avx(square) };
    }
    let rows = *square;
    *square = std::array::from_fn(|row| std::array::from_fn(|col| rows[col][row]));
}

/// By halves of 2, 4 and 8: compilers make element-wise copies of the plain loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn transpose_square_avx(square: &mut Square) {
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    // SAFETY: each row holds the eight values that are read.
    let rows = square.each_ref().map(|row| unsafe { _mm256_loadu_ps(row.as_ptr()) });
    let pair =
        |at: usize| (_mm256_unpacklo_ps(rows[at], rows[at + 1]), _mm256_unpackhi_ps(rows[at], rows[at + 1]));
    let four = |at: usize| -> [__m256; 4] {
        let ((low0, high0), (low1, high1)) = (pair(at), pair(at + 2));
        [
            _mm256_shuffle_ps::<0x44>(low0, low1),
            _mm256_shuffle_ps::<0xee>(low0, low1),
            _mm256_shuffle_ps::<0x44>(high0, high1),
            _mm256_shuffle_ps::<0xee>(high0, high1),
        ]
    };
    let (top, bottom) = (four(0), four(4));
    for at in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(top[at], bottom[at]);
        let high = _mm256_permute2f128_ps::<0x31>(top[at], bottom[at]);
        // SAFETY: each row holds the eight values that are written.
        unsafe {
            _mm256_storeu_ps(square[at].as_mut_ptr(), low);
            _mm256_storeu_ps(square[at + 4].as_mut_ptr(), high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_its_place() {
        for (width, length) in [(1, 1), (8, 8), (16, 24), (5, 9), (19, 3), (64, 100)] {
            let values: Vec<f32> = (0..width * length).map(|i| i as f32).collect();
            let lines: Vec<&[f32]> = values.chunks(length).collect();
            let expected: Vec<f32> =
                (0..width * length).map(|i| values[i % width * length + i / width]).collect();
            assert_eq!(transpose(&lines)[..], expected, "{width} lines of {length}");
        }
    }
}
