//! The output.

use std::f32::consts::LOG2_E;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::heads::{Dims, HeadRows, Inputs, QUERIES, by_head};
use super::pack::{self, vectors};
use super::positions::HeadBiases;
use crate::cpu::tile::{Left, product};
use crate::cpu::{Buffer, Output, softmax};

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
                    Arch::new().dispatch(Job { inputs, image, head, output, normalisers });
                },
            );
        },
    );
    (output, normalisers)
}

/// The forward of one head of one image.
struct Job<'a> {
    inputs: &'a Inputs<'a>,
    image: usize,
    head: usize,
    output: HeadRows<'a>,
    normalisers: &'a mut [f32],
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let dims = self.inputs.dims;
        let [queries, keys, values] = self.inputs.head(self.image, self.head);
        let (width, dim) = (vectors::<S>(dims.keys), vectors::<S>(dims.head_dim));
        let (block, block_scores) = (dims.block() * dim, dims.block() * width);
        let lens = [dims.head_dim * width, dims.keys * dim, block, block_scores, block];
        let mut buffer = pack::buffer::<S>(&lens);
        let [keys_t, tokens, queries_packed, scores, output] = pack::split::<S, _>(&mut buffer, lens);

        pack::pack_rows(simd, tokens, keys, 0);
        let mut scorer = Scorer::new(simd, self.inputs, self.head, tokens, keys_t);
        pack::pack_rows(simd, tokens, values, 0);
        let blocks = self.output.chunks_mut(dims.block()).zip(self.normalisers.chunks_mut(dims.block()));
        for (i, (rows, normalisers)) in blocks.enumerate() {
            let (from, count) = (i * dims.block(), rows.len());
            let (scores, output) = (&mut scores[..count * width], &mut output[..count * dim]);
            let queries_packed = &mut queries_packed[..count * dim];
            pack::pack_rows(simd, queries_packed, queries, from);
            scorer.scores(simd, scores, from, queries_packed);
            let mut sums = [0.0; QUERIES];
            let each_row = scores.chunks_exact_mut(width).zip(&mut *normalisers).zip(&mut sums);
            for ((scores, max), sum) in each_row {
                (*max, *sum) = softmax::unnormalized(simd, scores);
            }
            for (normaliser, sum) in normalisers.iter_mut().zip(&sums) {
                *normaliser += sum.log2();
            }
            product(simd, output, Output::Replace, Left::rows::<S>(scores, width), tokens, dim);
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
    biases: Option<HeadBiases<'a>>,
    dims: Dims,
}

impl<'a, S: Simd> Scorer<'a, S> {
    /// From the packed keys, which it transposes into `keys_t`.
    #[inline(always)]
    pub fn new(
        simd: S,
        inputs: &Inputs<'a>,
        head: usize,
        keys: &[S::f32s],
        keys_t: &'a mut [S::f32s],
    ) -> Self {
        let dims = inputs.dims;
        pack::transpose(simd, keys_t, keys, dims.head_dim, dims.scale() * LOG2_E);
        let biases = inputs.biases.map(|biases| HeadBiases::new(simd, biases, head, dims));
        Self { keys: keys_t, biases, dims }
    }

    /// What the scores get for the positions of queries and keys.
    pub fn biases(&self) -> Option<&HeadBiases<'a>> {
        self.biases.as_ref()
    }

    /// `log2(e) * (scale * q k^T + bias)` for packed queries, the first of which is number `from`, and minus infinity behind the last
    /// key.
    #[inline(always)]
    pub fn scores(&mut self, simd: S, scores: &mut [S::f32s], from: usize, queries: &[S::f32s]) {
        let tokens = self.dims.keys;
        let width = vectors::<S>(tokens);
        let mut mode = Output::Replace;
        if let Some(biases) = &mut self.biases {
            biases.write(simd, scores, from, queries, self.dims);
            mode = Output::Add;
        }
        let queries = Left::rows::<S>(queries, vectors::<S>(self.dims.head_dim));
        product(simd, scores, mode, queries, self.keys, width);
        let in_last = tokens - (width - 1) * S::F32_LANES;
        let keys = simd.mask_between_m32s(0, in_last as u32).mask();
        for last in scores.iter_mut().skip(width - 1).step_by(width) {
            *last = simd.select_f32s(keys, *last, simd.splat_f32s(f32::NEG_INFINITY));
        }
    }
}
