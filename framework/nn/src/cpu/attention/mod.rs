//! Multi-head attention: softmax(q k^T / sqrt(d) + bias) v.
//!
//! Scores exist for one head and a block of queries at a time only; the backward computes them again from the logarithm of
//! each row's normaliser, as `FlashAttention` does (Dao et al. 2022).
//!
//! A thread takes one head of one image, packs what it reads more than once in a buffer that stays in the cache, and writes its
//! results where they belong: the rows of the heads in `[B, N, H, d]` are disjoint slices.

mod backward;
mod forward;
mod heads;
mod pack;

use backward::{Backward, split_cross, split_packed};
pub use heads::Dims;
use heads::Inputs;

use super::Buffer;
use crate::Result;
use crate::profile;

/// The binary logarithms of the normalisers `[B, H, N]`, for the backward.
#[derive(Debug)]
pub struct Normalisers(Vec<f32>);

/// Self-attention. `qkv` is `[B, N, 3, H, d]`, `bias` `[H, N, N]`. Returns the output `[B, N, D]` and the binary logarithms of the
/// normalisers `[B, H, N]`.
pub fn forward(qkv: &[f32], bias: Option<&[f32]>, dims: Dims) -> Result<(Buffer, Normalisers)> {
    let _span = profile::kernel("attention");
    let (output, normalisers) = forward::forward(&Inputs::packed(qkv, bias, dims));
    Ok((output, Normalisers(normalisers)))
}

/// Attention of some tokens to others. `q` is `[B, M, H, d]`, `kv` `[B, N, 2, H, d]`, `bias` `[H, M, N]`. Returns the output
/// `[B, M, D]` and the binary logarithms of the normalisers `[B, H, M]`.
pub fn forward_cross(q: &[f32], kv: &[f32], bias: Option<&[f32]>, dims: Dims) -> (Buffer, Vec<f32>) {
    let _span = profile::kernel("attention");
    forward::forward(&Inputs::cross(q, kv, bias, dims))
}

/// The gradients of `qkv` and of the bias (if there is one), from that of the output of [`forward`].
pub fn backward(
    grad: &[f32],
    qkv: &[f32],
    bias: Option<&[f32]>,
    normalisers: &Normalisers,
    dims: Dims,
) -> Result<(Buffer, Option<Buffer>)> {
    let _span = profile::kernel("attention");
    let inputs = Inputs::packed(qkv, bias, dims);
    let mut grad_qkv = Buffer::unspecified(qkv.len());
    let backward = Backward { inputs, grad, normalisers: &normalisers.0 };
    let grad_bias = backward.run(split_packed(&mut grad_qkv, dims));
    Ok((grad_qkv, grad_bias.map(Buffer::from)))
}

/// The gradients of `q`, of `kv` and of the bias (if there is one), from that of the output of [`forward_cross`].
pub fn backward_cross(
    grad: &[f32],
    q: &[f32],
    kv: &[f32],
    bias: Option<&[f32]>,
    normalisers: &[f32],
    dims: Dims,
) -> (Buffer, Buffer, Option<Vec<f32>>) {
    let _span = profile::kernel("attention");
    let inputs = Inputs::cross(q, kv, bias, dims);
    let mut grad_q = Buffer::unspecified(q.len());
    // Without queries, nothing is written.
    let mut grad_kv = if q.is_empty() { Buffer::zeros(kv.len()) } else { Buffer::unspecified(kv.len()) };
    let images = split_cross(&mut grad_q, &mut grad_kv, dims);
    let grad_bias = Backward { inputs, grad, normalisers }.run(images);
    (grad_q, grad_kv, grad_bias)
}

#[cfg(test)]
mod tests;
