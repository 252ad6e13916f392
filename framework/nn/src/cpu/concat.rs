//! Concatenation of channels.

use rayon::prelude::*;

use super::Buffer;
use crate::Result;

/// Rows `[N, C_i]` beside each other, `[N, sum of C_i]`.
pub fn forward(inputs: &[Buffer], channels: &[usize]) -> Result<Buffer> {
    let mut output = Buffer::unspecified(inputs.iter().map(|input| input.len()).sum());
    output.par_chunks_mut(channels.iter().sum()).enumerate().for_each(|(position, mut output)| {
        for (input, &channels) in inputs.iter().zip(channels) {
            let (own, rest) = output.split_at_mut(channels);
            own.copy_from_slice(&input[position * channels..][..channels]);
            output = rest;
        }
    });
    Ok(output)
}

/// The gradients of the inputs: rows `[N, sum of C_i]` taken apart.
pub fn backward(grad: &[f32], channels: &[usize]) -> Result<Vec<Buffer>> {
    let width = channels.iter().sum();
    let mut start = 0;
    let part = |&channels: &usize| {
        let mut own = Buffer::unspecified(grad.len() / width * channels);
        let rows = own.par_chunks_mut(channels).zip(grad.par_chunks(width));
        rows.for_each(|(own, grad)| own.copy_from_slice(&grad[start..][..channels]));
        start += channels;
        own
    };
    Ok(channels.iter().map(part).collect())
}
