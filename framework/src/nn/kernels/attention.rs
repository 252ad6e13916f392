//! Multi-head self-attention: softmax(q k^T / sqrt(d) + bias) v.
//!
//! Scores exist for one head and [`QUERIES`] queries at a time only; the backward computes them again from the logarithm of
//! each row's normaliser, as `FlashAttention` does (Dao et al. 2022).

use rayon::prelude::*;

use super::gemm::{Matrix, Threads, gemm};
use super::simd::multiversion;
use super::{Buffer, Output, reduce, softmax};
use crate::nn::profile;

/// Queries whose scores are held at a time.
const QUERIES: usize = 256;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// `B`.
    pub batch: usize,
    /// `N`.
    pub tokens: usize,
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

    /// Asserts that the inputs have these sizes.
    fn check(self, qkv: &[f32], bias: Option<&[f32]>) {
        assert_eq!(qkv.len(), self.batch * self.tokens * 3 * self.dim());
        assert!(bias.is_none_or(|bias| bias.len() == self.heads * self.tokens * self.tokens));
    }

    fn scale(self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }

    /// Rows `from..from + count` of the queries (`part` 0), keys (1) or values (2) of one head.
    fn rows(self, qkv: &[f32], head: Head, part: usize, from: usize, count: usize) -> Matrix<'_> {
        let stride = 3 * self.dim();
        let start =
            (head.image * self.tokens + from) * stride + part * self.dim() + head.head * self.head_dim;
        Matrix::with_row_stride(&qkv[start..], count, self.head_dim, stride)
    }

    /// Rows of one head in the output or its gradient, `[B, N, D]`.
    fn output_rows(self, output: &[f32], head: Head, from: usize, count: usize) -> Matrix<'_> {
        let start = (head.image * self.tokens + from) * self.dim() + head.head * self.head_dim;
        Matrix::with_row_stride(&output[start..], count, self.head_dim, self.dim())
    }

    /// Blocks of queries: first query and count.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.tokens).step_by(QUERIES).map(move |from| (from, QUERIES.min(self.tokens - from)))
    }

    /// `scale * q k^T + bias` for a block of queries.
    fn scores(
        self,
        qkv: &[f32],
        bias: Option<&[f32]>,
        head: Head,
        (from, count): (usize, usize),
        scores: &mut [f32],
    ) {
        let mode = match bias {
            Some(bias) => {
                let start = (head.head * self.tokens + from) * self.tokens;
                scores.copy_from_slice(&bias[start..][..scores.len()]);
                Output::Add
            }
            None => Output::Replace,
        };
        let queries = self.rows(qkv, head, 0, from, count);
        let keys = self.rows(qkv, head, 1, 0, self.tokens);
        gemm(scores, mode, self.scale(), queries, keys.t(), Threads::One);
    }
}

/// One head of one image.
#[derive(Debug, Clone, Copy)]
struct Head {
    image: usize,
    head: usize,
}

/// `qkv` is `[B, N, 3, H, D / H]`, `bias` `[H, N, N]`. Returns the output `[B, N, D]` and the logarithms of the normalisers
/// `[B, H, N]`.
pub fn forward(qkv: &[f32], bias: Option<&[f32]>, dims: Dims) -> (Buffer, Vec<f32>) {
    let Dims { batch, tokens, heads, head_dim } = dims;
    dims.check(qkv, bias);
    let _span = profile::kernel("attention");
    let mut by_head = Buffer::unspecified(batch * tokens * dims.dim());
    let mut normalisers = vec![0.0; batch * heads * tokens];
    by_head.par_chunks_mut(tokens * head_dim).zip(normalisers.par_chunks_mut(tokens)).enumerate().for_each(
        |(i, (output, normalisers))| {
            let head = Head { image: i / heads, head: i % heads };
            let values = dims.rows(qkv, head, 2, 0, tokens);
            let mut buffer = Buffer::unspecified(QUERIES.min(tokens) * tokens);
            for (from, count) in dims.blocks() {
                let scores = &mut buffer[..count * tokens];
                dims.scores(qkv, bias, head, (from, count), scores);
                softmax_rows(scores, &mut normalisers[from..][..count]);
                let output = &mut output[from * head_dim..][..count * head_dim];
                let probabilities = Matrix::new(scores, count, tokens);
                gemm(output, Output::Replace, 1.0, probabilities, values, Threads::One);
            }
        },
    );
    // [B, H, N, d] -> [B, N, H, d]
    let mut output = Buffer::unspecified(by_head.len());
    output.par_chunks_mut(dims.dim()).enumerate().with_min_len(64).for_each(|(i, token)| {
        let (image, n) = (i / tokens, i % tokens);
        for (head, output) in token.chunks_exact_mut(head_dim).enumerate() {
            output.copy_from_slice(&by_head[((image * heads + head) * tokens + n) * head_dim..][..head_dim]);
        }
    });
    (output, normalisers)
}

/// The gradients of `qkv` and of the bias (if there is one), from that of the output.
pub fn backward(
    grad: &[f32],
    qkv: &[f32],
    bias: Option<&[f32]>,
    normalisers: &[f32],
    dims: Dims,
) -> (Buffer, Option<Vec<f32>>) {
    let Dims { batch, tokens, heads, head_dim } = dims;
    dims.check(qkv, bias);
    assert_eq!((grad.len(), normalisers.len()), (qkv.len() / 3, batch * heads * tokens));
    let part = tokens * head_dim;
    // [H, B, 3, N, d]: a head's images are neighbours, so that one thread can add up the bias over them, in order.
    let _span = profile::kernel("attention");
    let mut by_head = Buffer::zeros(qkv.len());
    let inputs = Inputs { grad, qkv, bias, normalisers };
    let grad_bias = if bias.is_some() {
        let mut grad_bias = vec![0.0; heads * tokens * tokens];
        by_head
            .par_chunks_mut(batch * 3 * part)
            .zip(grad_bias.par_chunks_mut(tokens * tokens))
            .enumerate()
            .for_each(|(head, (grads, grad_bias))| {
                for (image, grads) in grads.chunks_exact_mut(3 * part).enumerate() {
                    backward_head(&inputs, dims, Head { image, head }, grads, Some(grad_bias));
                }
            });
        Some(grad_bias)
    } else {
        by_head.par_chunks_mut(3 * part).enumerate().for_each(|(i, grads)| {
            backward_head(&inputs, dims, Head { image: i % batch, head: i / batch }, grads, None);
        });
        None
    };
    // [H, B, 3, N, d] -> [B, N, 3, H, d]
    let mut grad_qkv = Buffer::unspecified(qkv.len());
    grad_qkv.par_chunks_mut(3 * dims.dim()).enumerate().with_min_len(64).for_each(|(i, token)| {
        let (image, n) = (i / tokens, i % tokens);
        for (j, output) in token.chunks_exact_mut(head_dim).enumerate() {
            let (which, head) = (j / heads, j % heads);
            let start = ((head * batch + image) * 3 + which) * part + n * head_dim;
            output.copy_from_slice(&by_head[start..][..head_dim]);
        }
    });
    (grad_qkv, grad_bias)
}

multiversion! {
    /// Replaces rows of scores by probabilities; one normaliser for each row.
    fn softmax_rows(scores: &mut [f32], normalisers: &mut [f32]) {
        let tokens = scores.len() / normalisers.len();
        for (row, normaliser) in scores.chunks_exact_mut(tokens).zip(normalisers) {
            *normaliser = softmax::softmax(row);
        }
    }
}

multiversion! {
    /// Replaces rows of scores by probabilities again, and the gradients of these by those of the scores.
    fn softmax_backward_rows(grad: &mut [f32], scores: &mut [f32], normalisers: &[f32]) {
        let tokens = scores.len() / normalisers.len();
        let rows = grad.chunks_exact_mut(tokens).zip(scores.chunks_exact_mut(tokens));
        for ((grad, row), &normaliser) in rows.zip(normalisers) {
            softmax::recompute(row, normaliser);
            softmax::backward(grad, row);
        }
    }
}

/// What the backward reads.
struct Inputs<'a> {
    grad: &'a [f32],
    qkv: &'a [f32],
    bias: Option<&'a [f32]>,
    normalisers: &'a [f32],
}

/// Fills `grads`, `[3, N, d]`, which comes as zeros, and adds to the head's `grad_bias`, `[N, N]`.
fn backward_head(
    inputs: &Inputs<'_>,
    dims: Dims,
    head: Head,
    grads: &mut [f32],
    mut grad_bias: Option<&mut [f32]>,
) {
    let Dims { tokens, heads, head_dim, .. } = dims;
    let (grad_queries, rest) = grads.split_at_mut(tokens * head_dim);
    let (grad_keys, grad_values) = rest.split_at_mut(tokens * head_dim);
    let keys = dims.rows(inputs.qkv, head, 1, 0, tokens);
    let values = dims.rows(inputs.qkv, head, 2, 0, tokens);
    let normalisers = &inputs.normalisers[(head.image * heads + head.head) * tokens..][..tokens];
    let mut buffers = Buffer::unspecified(2 * QUERIES.min(tokens) * tokens);
    for (from, count) in dims.blocks() {
        let (probabilities, rest) = buffers.split_at_mut(count * tokens);
        let grad_scores = &mut rest[..count * tokens];
        let grad = dims.output_rows(inputs.grad, head, from, count);
        let queries = dims.rows(inputs.qkv, head, 0, from, count);

        dims.scores(inputs.qkv, inputs.bias, head, (from, count), probabilities);
        gemm(grad_scores, Output::Replace, 1.0, grad, values.t(), Threads::One);
        softmax_backward_rows(grad_scores, probabilities, &normalisers[from..][..count]);
        if let Some(grad_bias) = grad_bias.as_deref_mut() {
            reduce::add(&mut grad_bias[from * tokens..][..count * tokens], grad_scores);
        }
        let probabilities = Matrix::new(probabilities, count, tokens);
        let grad_scores = Matrix::new(grad_scores, count, tokens);
        let grad_queries = &mut grad_queries[from * head_dim..][..count * head_dim];
        gemm(grad_values, Output::Add, 1.0, probabilities.t(), grad, Threads::One);
        gemm(grad_queries, Output::Replace, dims.scale(), grad_scores, keys, Threads::One);
        gemm(grad_keys, Output::Add, dims.scale(), grad_scores.t(), queries, Threads::One);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, noise, on_threads, wide};

    fn reference(qkv: &[f64], bias: &[f64], dims: Dims) -> Vec<f64> {
        let Dims { batch, tokens, heads, head_dim } = dims;
        let at = |b: usize, n: usize, part: usize, h: usize, c: usize| {
            qkv[(((b * tokens + n) * 3 + part) * heads + h) * head_dim + c]
        };
        let mut output = vec![0.0; batch * tokens * dims.dim()];
        for (i, token) in output.chunks_exact_mut(head_dim).enumerate() {
            let (b, n, h) = (i / heads / tokens, i / heads % tokens, i % heads);
            let exps: Vec<f64> = (0..tokens)
                .map(|m| {
                    let dot: f64 = (0..head_dim).map(|c| at(b, n, 0, h, c) * at(b, m, 1, h, c)).sum();
                    (dot / (head_dim as f64).sqrt() + bias[(h * tokens + n) * tokens + m]).exp()
                })
                .collect();
            let sum: f64 = exps.iter().sum();
            for (c, value) in token.iter_mut().enumerate() {
                *value = (0..tokens).map(|m| exps[m] / sum * at(b, m, 2, h, c)).sum();
            }
        }
        output
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let dims = Dims { batch: 2, tokens: 5, heads: 2, head_dim: 3 };
        let qkv: Vec<f32> = noise(1, 2 * 5 * 18).iter().map(|x| 2.0 * x).collect();
        let (bias, grad) = (noise(2, 2 * 5 * 5), noise(3, 2 * 5 * 6));
        let (qkv64, bias64) = (wide(&qkv), wide(&bias));
        let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

        let (output, normalisers) = forward(&qkv, Some(&bias), dims);
        assert_close(&output, &reference(&qkv64, &bias64, dims), 1e-6);
        let (grad_qkv, grad_bias) = backward(&grad, &qkv, Some(&bias), &normalisers, dims);
        check_gradient(&qkv, &grad_qkv, |qkv| loss(reference(qkv, &bias64, dims)));
        check_gradient(&bias, &grad_bias.unwrap(), |bias| loss(reference(&qkv64, bias, dims)));
    }

    #[test]
    fn more_queries_than_a_block_give_the_same_as_a_zero_bias() {
        let dims = Dims { batch: 1, tokens: QUERIES + 9, heads: 2, head_dim: 4 };
        let (qkv, grad) = (noise(1, dims.tokens * 24), noise(2, dims.tokens * 8));
        let bias = vec![0.0; 2 * dims.tokens * dims.tokens];
        let (plain, normalisers) = forward(&qkv, None, dims);
        let (biased, _) = forward(&qkv, Some(&bias), dims);
        assert_close(&plain, &reference(&wide(&qkv), &wide(&bias), dims), 1e-6);
        assert_close(&biased, &wide(&plain), 1e-6);
        let (grad_plain, none) = backward(&grad, &qkv, None, &normalisers, dims);
        let (grad_biased, _) = backward(&grad, &qkv, Some(&bias), &normalisers, dims);
        assert_close(&grad_plain, &wide(&grad_biased), 1e-6);
        assert!(none.is_none());
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let dims = Dims { batch: 3, tokens: 49, heads: 4, head_dim: 8 };
        let (qkv, grad) = (noise(1, 3 * 49 * 96), noise(2, 3 * 49 * 32));
        let bias = noise(3, 4 * 49 * 49);
        let all = |threads, bias: Option<&[f32]>| {
            on_threads(threads, || {
                let (output, normalisers) = forward(&qkv, bias, dims);
                let grads = backward(&grad, &qkv, bias, &normalisers, dims);
                (output, grads)
            })
        };
        assert_eq!(all(1, None), all(3, None));
        assert_eq!(all(1, Some(&bias)), all(3, Some(&bias)));
    }
}
