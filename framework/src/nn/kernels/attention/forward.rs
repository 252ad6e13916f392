//! The output.

use std::f32::consts::LOG2_E;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::pack::{self, vectors};
use super::{Dims, HeadRows, Inputs, QUERIES, Rows, by_head};
use crate::nn::kernels::tile::{Left, product};
use crate::nn::kernels::{Buffer, Output, softmax};

/// The output `[B, M, D]` and the normalisers' binary logarithms `[B, H, M]`.
pub fn forward(inputs: &Inputs<'_>) -> (Buffer, Vec<f32>) {
    let dims = inputs.dims;
    let Dims { batch, queries, heads, .. } = dims;
    let mut output = Buffer::unspecified(batch * queries * dims.dim());
    let mut normalisers = vec![0.0; batch * heads * queries];
    let images = output.par_chunks_mut((queries * dims.dim()).max(1));
    images.zip(normalisers.par_chunks_mut((heads * queries).max(1))).enumerate().for_each(
        |(image, (output, normalisers))| {
            let output = by_head(output, 1, dims).into_par_iter();
            output.zip(normalisers.par_chunks_mut(queries)).enumerate().for_each(
                |(head, (output, normalisers))| {
                    Arch::new().dispatch(Head { inputs, image, head, output, normalisers });
                },
            );
        },
    );
    (output, normalisers)
}

/// The forward of one head of one image.
struct Head<'a> {
    inputs: &'a Inputs<'a>,
    image: usize,
    head: usize,
    output: HeadRows<'a>,
    normalisers: &'a mut [f32],
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Inputs { dims, values, .. } = *self.inputs;
        let (width, dim) = (vectors::<S>(dims.keys), vectors::<S>(dims.head_dim));
        let lens = [
            dims.head_dim * width,
            dims.keys * dim,
            dims.block() * width,
            dims.block() * dim,
            dims.block() * dim,
        ];
        let mut buffer = pack::buffer::<S>(&lens);
        let [keys, packed_values, scores, output, queries] = pack::split::<S, _>(&mut buffer, lens);

        pack::pack_rows(simd, packed_values, self.inputs.keys.head(self.image, self.head), 0, 1.0);
        let scorer =
            Scorer::new(simd, self.inputs, Rows::packed::<S>(packed_values, dims.head_dim), self.head, keys);
        pack::pack_rows(simd, packed_values, values.head(self.image, self.head), 0, 1.0);
        let blocks = self.output.chunks_mut(dims.block()).zip(self.normalisers.chunks_mut(dims.block()));
        for (i, (rows, normalisers)) in blocks.enumerate() {
            let scores = &mut scores[..rows.len() * width];
            let output = &mut output[..rows.len() * dim];
            let queries = &mut queries[..rows.len() * dim];
            pack::pack_rows(
                simd,
                queries,
                self.inputs.queries.head(self.image, self.head),
                i * dims.block(),
                1.0,
            );
            scorer.scores(simd, scores, i * dims.block(), Left::rows::<S>(queries, dim));
            let mut sums = [0.0; QUERIES];
            let each_row = scores.chunks_exact_mut(width).zip(&mut *normalisers).zip(&mut sums);
            for ((scores, max), sum) in each_row {
                (*max, *sum) = softmax::unnormalized(simd, scores);
            }
            for (normaliser, sum) in normalisers.iter_mut().zip(&sums) {
                *normaliser += sum.log2();
            }
            product(simd, output, Output::Replace, Left::rows::<S>(scores, width), packed_values, dim);
            for ((row, output), sum) in rows.iter_mut().zip(output.chunks_exact(dim)).zip(&sums) {
                pack::unpack(simd, row, output, sum.recip());
            }
        }
    }
}

/// Computes the scores of one head.
pub struct Scorer<'a, S: Simd> {
    /// `[d, N]`, times what all scores are multiplied by.
    keys: &'a [S::f32s],
    /// `[M, N]`.
    bias: Option<&'a [f32]>,
    tokens: usize,
}

impl<'a, S: Simd> Scorer<'a, S> {
    /// Packs the keys into `keys`, `d` rows.
    #[inline(always)]
    pub fn new(simd: S, inputs: &Inputs<'a>, rows: Rows<'_>, head: usize, keys: &'a mut [S::f32s]) -> Self {
        let (tokens, factor) = (inputs.dims.keys, inputs.dims.scale() * LOG2_E);
        pack::pack_columns(simd, keys, rows, tokens, factor);
        Self { keys, bias: inputs.bias(head), tokens }
    }

    /// `log2(e) * (scale * q k^T + bias)` for queries from `from` on, as many as `scores` has rows, and minus infinity behind
    /// the last key.
    #[inline(always)]
    pub fn scores(&self, simd: S, scores: &mut [S::f32s], from: usize, queries: Left<'_>) {
        let width = vectors::<S>(self.tokens);
        let mut mode = Output::Replace;
        if let Some(bias) = self.bias {
            let bias = bias[from * self.tokens..].chunks_exact(self.tokens);
            for (row, bias) in scores.chunks_exact_mut(width).zip(bias) {
                pack::pack(simd, row, bias, LOG2_E);
            }
            mode = Output::Add;
        }
        product(simd, scores, mode, queries, self.keys, width);
        let in_last = self.tokens - (width - 1) * S::F32_LANES;
        let keys = simd.mask_between_m32s(0, in_last as u32).mask();
        for last in scores.iter_mut().skip(width - 1).step_by(width) {
            *last = simd.select_f32s(keys, *last, simd.splat_f32s(f32::NEG_INFINITY));
        }
    }
}
