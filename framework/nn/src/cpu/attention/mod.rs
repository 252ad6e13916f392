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
mod positions;

use backward::{Backward, split_cross, split_packed};
pub use heads::Dims;
use heads::Inputs;
use positions::Biases;
pub use positions::{PositionTables, RelativePositions, bias_rows};

use super::Buffer;
use crate::Result;
use crate::profile;

/// The binary logarithms of the normalisers `[B, H, N]`, for the backward.
#[derive(Debug)]
pub struct Normalisers(Vec<f32>);

/// Self-attention. `qkv` is `[B, N, 3, H, d]`. Returns the output `[B, N, D]` and the binary logarithms of the normalisers `[B, H, N]`.
pub fn forward(
    qkv: &[f32],
    positions: Option<&RelativePositions<'_>>,
    dims: Dims,
) -> Result<(Buffer, Normalisers)> {
    let _span = profile::kernel("attention");
    let biases = positions.map(|positions| Biases::new(positions, dims));
    let (output, normalisers) = forward::forward(&Inputs::packed(qkv, biases.as_ref(), dims));
    Ok((output, Normalisers(normalisers)))
}

/// Attention of some tokens to others. `q` is `[B, M, H, d]`, `kv` `[B, N, 2, H, d]`. Returns the output `[B, M, D]` and the binary
/// logarithms of the normalisers `[B, H, M]`.
pub fn forward_cross(q: &[f32], kv: &[f32], dims: Dims) -> (Buffer, Vec<f32>) {
    let _span = profile::kernel("attention");
    forward::forward(&Inputs::cross(q, kv, dims))
}

/// The gradients of `qkv` and of the tables of positions, from that of the output of [`forward`].
pub fn backward(
    grad: &[f32],
    output: &[f32],
    qkv: &[f32],
    positions: Option<&RelativePositions<'_>>,
    normalisers: &Normalisers,
    dims: Dims,
) -> Result<(Buffer, Vec<Buffer>)> {
    let _span = profile::kernel("attention");
    let biases = positions.map(|positions| Biases::new(positions, dims));
    let inputs = Inputs::packed(qkv, biases.as_ref(), dims);
    let mut grad_qkv = Buffer::unspecified(qkv.len());
    let backward = Backward { inputs, grad, output, normalisers: &normalisers.0 };
    let grad_tables = backward.run(split_packed(&mut grad_qkv, dims));
    Ok((grad_qkv, grad_tables))
}

/// The gradients of `q` and of `kv`, from that of the output of [`forward_cross`].
pub fn backward_cross(
    grad: &[f32],
    output: &[f32],
    q: &[f32],
    kv: &[f32],
    normalisers: &[f32],
    dims: Dims,
) -> (Buffer, Buffer) {
    let _span = profile::kernel("attention");
    let inputs = Inputs::cross(q, kv, dims);
    let mut grad_q = Buffer::unspecified(q.len());
    // Without queries, nothing is written.
    let mut grad_kv = if q.is_empty() { Buffer::zeros(kv.len()) } else { Buffer::unspecified(kv.len()) };
    let images = split_cross(&mut grad_q, &mut grad_kv, dims);
    Backward { inputs, grad, output, normalisers }.run(images);
    (grad_q, grad_kv)
}

#[cfg(test)]
mod tests;
