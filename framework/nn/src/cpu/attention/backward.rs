//! The gradients.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::forward::Scorer;
use super::heads::{Dims, HeadRows, Inputs, Rows, Tokens, by_head};
use super::pack::{self, vectors};
use super::positions::HeadBiasGrads;
use crate::cpu::tile::{Left, product};
use crate::cpu::{Buffer, Output, softmax};

/// Where the gradients of one head go: the rows of its queries, keys and values.
pub struct HeadGrads<'a> {
    queries: HeadRows<'a>,
    keys: HeadRows<'a>,
    values: HeadRows<'a>,
}

/// The heads of one image.
type ImageGrads<'a> = Vec<HeadGrads<'a>>;

/// Divides the gradient of `[B, N, 3, H, d]` among images and heads.
pub fn split_packed(qkv: &mut [f32], dims: Dims) -> Vec<ImageGrads<'_>> {
    let images = qkv.par_chunks_mut((dims.keys * 3 * dims.dim()).max(1));
    let split = |image| {
        let mut queries = by_head(image, 3, dims);
        let keys_values = queries.split_off(dims.heads);
        image_grads(queries, keys_values)
    };
    images.map(split).collect()
}

/// Divides the gradients of `[B, M, H, d]` and `[B, N, 2, H, d]`.
pub fn split_cross<'a>(q: &'a mut [f32], kv: &'a mut [f32], dims: Dims) -> Vec<ImageGrads<'a>> {
    let queries = q.par_chunks_mut((dims.queries * dims.dim()).max(1));
    let keys_values = kv.par_chunks_mut((dims.keys * 2 * dims.dim()).max(1));
    let split =
        |(queries, keys_values)| image_grads(by_head(queries, 1, dims), by_head(keys_values, 2, dims));
    queries.zip(keys_values).map(split).collect()
}

/// From the rows of each head's queries, and of each head's keys and then values.
fn image_grads<'a>(queries: Vec<HeadRows<'a>>, mut keys: Vec<HeadRows<'a>>) -> ImageGrads<'a> {
    let values = keys.split_off(queries.len());
    let parts = queries.into_iter().zip(keys).zip(values);
    parts.map(|((queries, keys), values)| HeadGrads { queries, keys, values }).collect()
}

/// What the gradients follow from.
pub struct Backward<'a> {
    /// Of the forward.
    pub inputs: Inputs<'a>,
    /// The gradient of the output, `[B, M, D]`.
    pub grad: &'a [f32],
    /// The output.
    pub output: &'a [f32],
    /// As the forward returned them.
    pub normalisers: &'a [f32],
}

impl Backward<'_> {
    /// Fills the gradients of all images; returns those of the tables of positions.
    pub fn run(&self, images: Vec<ImageGrads<'_>>) -> Vec<Buffer> {
        let Dims { batch, queries, heads, .. } = self.inputs.dims;
        assert_eq!(self.normalisers.len(), batch * heads * queries);
        let Some(biases) = self.inputs.biases else {
            images.into_par_iter().enumerate().for_each(|(image, heads)| {
                let heads = heads.into_par_iter().enumerate();
                heads.for_each(|(head, grads)| self.head(image, head, grads, None));
            });
            return Vec::new();
        };
        // One image after the other, so that their gradients of the tables add up in order.
        let mut sums = vec![0.0; heads * biases.grad_len()];
        for (image, heads) in images.into_iter().enumerate() {
            let heads = heads.into_par_iter().zip(sums.par_chunks_mut(biases.grad_len()));
            heads.enumerate().for_each(|(head, (grads, sums))| self.head(image, head, grads, Some(sums)));
        }
        biases.grads(&sums, self.inputs.dims)
    }

    /// Fills the gradients of one head of one image, and adds to those of the tables that the head collects.
    fn head(&self, image: usize, head: usize, grads: HeadGrads<'_>, sums: Option<&mut [f32]>) {
        let Dims { queries, heads, .. } = self.inputs.dims;
        let normalisers = &self.normalisers[(image * heads + head) * queries..][..queries];
        let [grad, output] = [self.grad, self.output]
            .map(|values| Tokens::new(values, 1, 0, queries, self.inputs.dims).head(image, head));
        Arch::new().dispatch(Job {
            inputs: &self.inputs,
            image,
            head,
            normalisers,
            grad,
            output,
            grads,
            sums,
        });
    }
}

/// The backward of one head of one image.
struct Job<'a> {
    inputs: &'a Inputs<'a>,
    image: usize,
    head: usize,
    normalisers: &'a [f32],
    grad: Rows<'a>,
    output: Rows<'a>,
    grads: HeadGrads<'a>,
    sums: Option<&'a mut [f32]>,
}

impl WithSimd for Job<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let dims = self.inputs.dims;
        let (width, dim) = (vectors::<S>(dims.keys), vectors::<S>(dims.head_dim));
        let (columns, rows) = (dims.head_dim * width, dims.keys * dim);
        let (block, block_scores) = (dims.block() * dim, dims.block() * width);
        let lens = [columns, columns, rows, rows, rows, block, block, block, block_scores, block_scores];
        let mut buffer = pack::buffer::<S>(&lens);
        let [
            keys_t,
            values_t,
            keys,
            grad_keys,
            grad_values,
            queries,
            grad,
            grad_queries,
            scores,
            grad_scores,
        ] = pack::split::<S, _>(&mut buffer, lens);

        let [all_queries, all_keys, all_values] = self.inputs.head(self.image, self.head);
        // The values themselves are not needed: their rows are soon overwritten.
        pack::pack_rows(simd, grad_values, all_values, 0);
        pack::transpose(simd, values_t, grad_values, dims.head_dim, 1.0);
        pack::pack_rows(simd, keys, all_keys, 0);
        let mut scorer = Scorer::new(simd, self.inputs, self.head, keys, keys_t);
        let mut grad_biases =
            scorer.biases().zip(self.sums).map(|(biases, sums)| HeadBiasGrads::new(simd, biases, sums, dims));
        let mut mode = Output::Replace;
        for from in (0..dims.queries).step_by(dims.block()) {
            let count = dims.block().min(dims.queries - from);
            let [queries, grad, grad_queries] =
                [&mut *queries, &mut *grad, &mut *grad_queries].map(|rows| &mut rows[..count * dim]);
            let [scores, grad_scores] =
                [&mut *scores, &mut *grad_scores].map(|rows| &mut rows[..count * width]);
            pack::pack_rows(simd, queries, all_queries, from);
            pack::pack_rows(simd, grad, self.grad, from);

            scorer.scores(simd, scores, from, queries);
            product(simd, grad_scores, Output::Replace, Left::rows::<S>(grad, dim), values_t, width);
            let rows = grad_scores.chunks_exact_mut(width).zip(scores.chunks_exact_mut(width));
            for ((grad, scores), query) in rows.zip(from..) {
                // The mean of the gradients of the probabilities: FlashAttention's `D`.
                let output = self.output.row(query).iter().zip(self.grad.row(query));
                let mean = output.map(|(output, grad)| output * grad).sum();
                softmax::backward(simd, grad, scores, self.normalisers[query], mean);
            }
            product(simd, grad_values, mode, Left::columns::<S>(scores, width), grad, dim);
            product(simd, grad_keys, mode, Left::columns::<S>(grad_scores, width), queries, dim);
            product(simd, grad_queries, Output::Replace, Left::rows::<S>(grad_scores, width), keys, dim);
            if let Some(grad_biases) = &mut grad_biases {
                grad_biases.add(simd, grad_scores, from, queries, grad_queries);
            }
            pack::unpack_rows(simd, &mut self.grads.queries[from..], grad_queries, dims.scale());
            mode = Output::Add;
        }
        pack::unpack_rows(simd, &mut self.grads.keys, grad_keys, dims.scale());
        pack::unpack_rows(simd, &mut self.grads.values, grad_values, 1.0);
        if let Some(grad_biases) = grad_biases {
            grad_biases.finish::<S>();
        }
    }
}
