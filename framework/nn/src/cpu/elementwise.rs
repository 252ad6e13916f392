//! Elementwise arithmetic in place.

use rayon::prelude::*;

use super::simd::vectorized;
use super::{Buffer, Output, reduce};
use crate::Result;

/// Elements that one thread takes at a time.
pub const CHUNK: usize = 1 << 14;

/// `y += x`.
pub fn add_assign(y: &mut [f32], x: &[f32]) -> Result<()> {
    assert_eq!(y.len(), x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| vectorized(|| reduce::add(y, x)));
    Ok(())
}

/// Writes `values` over `sum`, or adds them to it.
pub fn accumulate(sum: &mut [f32], values: &[f32], mode: Output) -> Result<()> {
    match mode {
        Output::Replace => sum.copy_from_slice(values),
        Output::Add => add_assign(sum, values)?,
    }
    Ok(())
}

/// `y *= x`.
pub fn mul_assign(y: &mut [f32], x: &[f32]) -> Result<()> {
    assert_eq!(y.len(), x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        vectorized(|| {
            for (y, x) in y.iter_mut().zip(x) {
                *y *= x;
            }
        });
    });
    Ok(())
}

/// Multiplies the `i`-th of `factors.len()` equal parts of `y` by `factors[i]`.
pub fn scale_parts(y: &mut [f32], factors: &[f32]) -> Result<()> {
    assert!(!factors.is_empty() && y.len().is_multiple_of(factors.len()));
    let part = (y.len() / factors.len()).max(1);
    y.par_chunks_mut(part).zip(factors).for_each(|(y, &factor)| {
        vectorized(|| {
            for y in y {
                *y *= factor;
            }
        });
    });
    Ok(())
}

/// Multiplies the channels of `y` `[B, N, C]` by `factors` `[B, C]`.
pub fn scale_channels(y: &mut [f32], factors: &[f32], channels: usize) -> Result<()> {
    assert!(channels > 0 && factors.len().is_multiple_of(channels));
    let batch = factors.len() / channels;
    assert!(batch > 0 && y.len().is_multiple_of(factors.len()));
    let rows = CHUNK.div_ceil(channels);
    y.par_chunks_mut((y.len() / batch).max(1)).zip(factors.par_chunks(channels)).for_each(|(y, factors)| {
        y.par_chunks_mut(rows * channels).for_each(|y| {
            vectorized(|| {
                for row in y.chunks_exact_mut(channels) {
                    row.iter_mut().zip(factors).for_each(|(y, factor)| *y *= factor);
                }
            });
        });
    });
    Ok(())
}

/// `y *= factor`.
pub fn scale(y: &mut [f32], factor: f32) -> Result<()> {
    y.par_chunks_mut(CHUNK).for_each(|y| y.iter_mut().for_each(|y| *y *= factor));
    Ok(())
}

/// `map(x[i])` for all `i`.
pub fn map(x: &[f32], map: impl Fn(f32) -> f32 + Sync) -> Buffer {
    let mut y = Buffer::unspecified(x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        vectorized(|| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = map(x);
            }
        });
    });
    y
}

#[cfg(test)]
mod tests {
    // What is compared is exact.
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn every_element_is_changed() {
        let x: Vec<f32> = (0..CHUNK + 3).map(|i| i as f32).collect();
        let mut y = x.clone();
        add_assign(&mut y, &x).unwrap();
        assert!(y.iter().zip(&x).all(|(&y, &x)| y == 2.0 * x));
        mul_assign(&mut y, &x).unwrap();
        assert!(y.iter().zip(&x).all(|(&y, &x)| y == 2.0 * x * x));
        assert_eq!(map(&x, |x| -x)[CHUNK + 2], -((CHUNK + 2) as f32));
    }

    #[test]
    fn parts_and_channels_have_their_factors() {
        let mut y = vec![1.0; 6];
        scale_parts(&mut y, &[2.0, 0.0, -1.0]).unwrap();
        assert_eq!(y, [2.0, 2.0, 0.0, 0.0, -1.0, -1.0]);
        let mut y = vec![1.0; 8];
        scale_channels(&mut y, &[2.0, 0.0, -1.0, 3.0], 2).unwrap();
        assert_eq!(y, [2.0, 0.0, 2.0, 0.0, -1.0, 3.0, -1.0, 3.0]);
    }
}
