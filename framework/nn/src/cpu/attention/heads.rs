//! The rows of heads in memory.

use super::positions::Biases;
use crate::cpu::tile;

/// Queries whose scores are held at a time, at most.
pub(super) const QUERIES: usize = 10 * tile::ROWS;

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
    pub fn block(self) -> usize {
        let blocks = self.queries.div_ceil(QUERIES).max(1);
        self.queries.div_ceil(blocks).next_multiple_of(tile::ROWS)
    }
}

/// What the scores and the output follow from.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub dims: Dims,
    pub queries: Tokens<'a>,
    pub keys: Tokens<'a>,
    pub values: Tokens<'a>,
    pub biases: Option<&'a Biases>,
}

impl<'a> Inputs<'a> {
    pub fn packed(qkv: &'a [f32], biases: Option<&'a Biases>, dims: Dims) -> Self {
        assert_eq!(dims.queries, dims.keys, "all tokens attend");
        assert!(dims.keys > 0, "attention to no tokens");
        let part = |part| Tokens::new(qkv, 3, part, dims.keys, dims);
        Self { queries: part(0), keys: part(1), values: part(2), biases, dims }
    }

    pub fn cross(q: &'a [f32], kv: &'a [f32], dims: Dims) -> Self {
        assert!(dims.keys > 0, "attention to no tokens");
        let part = |part| Tokens::new(kv, 2, part, dims.keys, dims);
        let queries = Tokens::new(q, 1, 0, dims.queries, dims);
        Self { queries, keys: part(0), values: part(1), biases: None, dims }
    }

    /// Queries, keys and values of one head of one image.
    pub fn head(&self, image: usize, head: usize) -> [Rows<'a>; 3] {
        [self.queries, self.keys, self.values].map(|tokens| tokens.head(image, head))
    }
}

/// One of the parts of `[B, N, parts, H, d]`: queries, keys, values, or the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub values: &'a [f32],
    /// Of each image.
    count: usize,
    /// From one token to the next.
    stride: usize,
    /// Where the part begins in a token.
    start: usize,
    head_dim: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(values: &'a [f32], parts: usize, part: usize, tokens: usize, dims: Dims) -> Self {
        let (stride, start) = (parts * dims.dim(), part * dims.dim());
        assert_eq!(values.len(), dims.batch * tokens * stride);
        Self { values, count: tokens, stride, start, head_dim: dims.head_dim }
    }

    /// The rows of one head of one image.
    pub fn head(self, image: usize, head: usize) -> Rows<'a> {
        let start = image * self.count * self.stride + self.start + head * self.head_dim;
        Rows { values: &self.values[start..], stride: self.stride, dim: self.head_dim }
    }
}

/// Rows of `dim` values, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub dim: usize,
}

impl<'a> Rows<'a> {
    pub fn row(self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.dim]
    }
}

/// The rows of one head, wherever they are.
pub(super) type HeadRows<'a> = Vec<&'a mut [f32]>;

/// Splits `[tokens, parts, H, d]` into the rows of each part and head: `parts * H` times `tokens`.
pub(super) fn by_head(image: &mut [f32], parts: usize, dims: Dims) -> Vec<HeadRows<'_>> {
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
