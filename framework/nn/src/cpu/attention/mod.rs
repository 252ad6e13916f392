//! Multi-head attention: softmax(q k^T / sqrt(d) + bias) v.
//!
//! Scores exist for one head and a block of queries at a time only; the backward computes them again from the logarithm of
//! each row's normaliser, as `FlashAttention` does (Dao et al. 2022).
//!
//! A thread takes one head of one image, packs what it reads more than once in a buffer that stays in the cache, and writes its
//! results where they belong: the rows of the heads in `[B, N, H, d]` are disjoint slices.

mod backward;
mod forward;
mod pack;

use backward::{Backward, split_cross, split_packed};

use super::{Buffer, tile};
use crate::Result;
use crate::profile;

/// Queries whose scores are held at a time, at most.
const QUERIES: usize = 10 * tile::ROWS;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// `B`.
    pub batch: usize,
    /// Tokens that attend, `M`.
    pub queries: usize,
    /// Tokens that are attended to, `N`; all of them attend in self-attention.
    pub keys: usize,
    /// `H`.
    pub heads: usize,
    /// `D / H`.
    pub head_dim: usize,
}

impl Dims {
    /// `D`.
    pub fn dim(self) -> usize {
        self.heads * self.head_dim
    }

    /// What the products of queries and keys are multiplied by.
    pub fn scale(self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    /// Queries whose scores are held at a time: blocks of about equal length, of whole tiles.
    fn block(self) -> usize {
        let blocks = self.queries.div_ceil(QUERIES).max(1);
        self.queries.div_ceil(blocks).next_multiple_of(tile::ROWS)
    }
}

/// What the scores and the output follow from.
#[derive(Debug, Clone, Copy)]
struct Inputs<'a> {
    dims: Dims,
    queries: Tokens<'a>,
    keys: Tokens<'a>,
    values: Tokens<'a>,
    bias: Option<&'a [f32]>,
}

impl<'a> Inputs<'a> {
    fn packed(qkv: &'a [f32], bias: Option<&'a [f32]>, dims: Dims) -> Self {
        assert_eq!(dims.queries, dims.keys, "all tokens attend");
        let part = |part| Tokens::new(qkv, 3, part, dims.keys, dims);
        Self { queries: part(0), keys: part(1), values: part(2), bias, dims }.checked()
    }

    fn cross(q: &'a [f32], kv: &'a [f32], bias: Option<&'a [f32]>, dims: Dims) -> Self {
        let part = |part| Tokens::new(kv, 2, part, dims.keys, dims);
        let queries = Tokens::new(q, 1, 0, dims.queries, dims);
        Self { queries, keys: part(0), values: part(1), bias, dims }.checked()
    }

    fn checked(self) -> Self {
        let Dims { queries, keys, heads, .. } = self.dims;
        assert!(keys > 0, "attention to no tokens");
        assert!(self.bias.is_none_or(|bias| bias.len() == heads * queries * keys));
        self
    }

    /// Queries, keys and values of one head of one image.
    fn head(&self, image: usize, head: usize) -> [Rows<'a>; 3] {
        [self.queries, self.keys, self.values].map(|tokens| tokens.head(image, head))
    }

    /// The biases of one head, `[M, N]`.
    fn bias(&self, head: usize) -> Option<&'a [f32]> {
        let len = self.dims.queries * self.dims.keys;
        self.bias.map(|bias| &bias[head * len..][..len])
    }
}

/// One of the parts of `[B, N, parts, H, d]`: queries, keys, values, or the output.
#[derive(Debug, Clone, Copy)]
struct Tokens<'a> {
    values: &'a [f32],
    /// Of each image.
    count: usize,
    /// From one token to the next.
    stride: usize,
    /// Where the part begins in a token.
    start: usize,
    head_dim: usize,
}

impl<'a> Tokens<'a> {
    fn new(values: &'a [f32], parts: usize, part: usize, tokens: usize, dims: Dims) -> Self {
        let (stride, start) = (parts * dims.dim(), part * dims.dim());
        assert_eq!(values.len(), dims.batch * tokens * stride);
        Self { values, count: tokens, stride, start, head_dim: dims.head_dim }
    }

    /// The rows of one head of one image.
    fn head(self, image: usize, head: usize) -> Rows<'a> {
        let start = image * self.count * self.stride + self.start + head * self.head_dim;
        Rows { values: &self.values[start..], stride: self.stride, dim: self.head_dim }
    }
}

/// Rows of `dim` values, `stride` apart.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    dim: usize,
}

impl<'a> Rows<'a> {
    fn row(self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.dim]
    }
}

/// The rows of one head, wherever they are.
type HeadRows<'a> = Vec<&'a mut [f32]>;

/// Splits `[tokens, parts, H, d]` into the rows of each part and head: `parts * H` times `tokens`.
fn by_head(image: &mut [f32], parts: usize, dims: Dims) -> Vec<HeadRows<'_>> {
    let len = parts * dims.dim();
    let tokens = image.len() / len;
    let mut heads: Vec<_> = (0..parts * dims.heads).map(|_| HeadRows::with_capacity(tokens)).collect();
    for token in image.chunks_exact_mut(len) {
        for (rows, row) in heads.iter_mut().zip(token.chunks_exact_mut(dims.head_dim)) {
            rows.push(row);
        }
    }
    heads
}

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
