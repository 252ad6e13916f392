//! Means over tokens.

use rayon::prelude::*;

use super::Buffer;
use super::simd::vectorized;
use crate::Result;

/// The mean over the tokens of each image: from `[B, tokens, channels]` to `[B, channels]`, summed in double precision.
pub fn mean_tokens(x: &[f32], tokens: usize, channels: usize) -> Result<Buffer> {
    assert!(x.len().is_multiple_of(tokens * channels));
    let mut output = Buffer::unspecified(x.len() / tokens);
    let images = output.par_chunks_mut(channels).zip(x.par_chunks(tokens * channels));
    images.for_each(|(output, x)| {
        let mut sums = vec![0.0_f64; channels];
        vectorized(|| {
            for token in x.chunks_exact(channels) {
                for (sum, &value) in sums.iter_mut().zip(token) {
                    *sum += f64::from(value);
                }
            }
        });
        for (output, sum) in output.iter_mut().zip(sums) {
            *output = (sum / tokens as f64) as f32;
        }
    });
    Ok(output)
}

/// The gradient of [`mean_tokens`] with respect to `x`: every token gets its part of its image's, `grad` `[B, channels]`.
pub fn mean_tokens_grad(grad: &[f32], tokens: usize, channels: usize) -> Result<Buffer> {
    assert!(grad.len().is_multiple_of(channels));
    let mut output = Buffer::unspecified(grad.len() * tokens);
    output.par_chunks_mut(tokens * channels).zip(grad.par_chunks(channels)).for_each(|(output, grad)| {
        let (first, rest) = output.split_at_mut(channels);
        for (first, grad) in first.iter_mut().zip(grad) {
            *first = grad / tokens as f32;
        }
        rest.chunks_exact_mut(channels).for_each(|token| token.copy_from_slice(first));
    });
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_counts_alike() {
        let x = [1.0, 2.0, 3.0, 6.0, -1.0, 0.0, 5.0, 0.5];
        assert_eq!(mean_tokens(&x, 2, 2).unwrap()[..], [2.0, 4.0, 2.0, 0.25]);
        assert_eq!(mean_tokens_grad(&[2.0, 4.0], 2, 2).unwrap()[..], [1.0, 2.0, 1.0, 2.0]);
    }
}
