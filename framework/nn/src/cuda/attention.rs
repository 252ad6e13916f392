//! Multi-head attention: softmax(q k^T / sqrt(d) + bias) v.

use super::buffer::unspecified;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;
use crate::error::Error;

pub use crate::cpu::attention::Dims;

static KERNELS: Source = source!("attention");

/// The binary logarithms of the normalisers `[B, H, N]`, for the backward.
#[derive(Debug)]
pub struct Normalisers(Buffer);

/// Self-attention. `qkv` is `[B, N, 3, H, d]`, `bias` `[H, N, N]`. Returns the output `[B, N, D]` and the binary logarithms of the
/// normalisers `[B, H, N]`.
pub fn forward(qkv: &Values, bias: Option<&Values>, dims: Dims) -> Result<(Buffer, Normalisers)> {
    check(qkv, bias, dims);
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let kernels = Kernels::of(head_dim)?;
    let normalisers = unspecified(batch * heads * tokens)?;
    let output = unspecified(normalisers.len() * head_dim)?;
    let arguments = arguments![output, normalisers, *qkv, bias, dims.scale(), tokens, heads, head_dim];
    let grid = Grid::items(batch * heads * tokens.div_ceil(kernels.queries));
    KERNELS.launch(kernels.forward, grid, arguments)?;
    Ok((output, Normalisers(normalisers)))
}

/// The gradients of `qkv` and of the bias (if there is one), from that of the output of [`forward`].
pub fn backward(
    grad: &Values,
    qkv: &Values,
    bias: Option<&Values>,
    normalisers: &Normalisers,
    dims: Dims,
) -> Result<(Buffer, Option<Buffer>)> {
    check(qkv, bias, dims);
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let Normalisers(normalisers) = normalisers;
    assert_eq!((normalisers.len(), 3 * grad.len()), (batch * heads * tokens, qkv.len()));
    let (kernels, scale) = (Kernels::of(head_dim)?, dims.scale());
    let (grad_qkv, deltas) = (unspecified(qkv.len())?, unspecified(normalisers.len())?);
    let arguments =
        arguments![grad_qkv, deltas, *grad, *qkv, bias, *normalisers, scale, tokens, heads, head_dim];
    let tiles = tokens.div_ceil(kernels.tile);
    for kernel in [kernels.backward_queries, kernels.backward_keys] {
        KERNELS.launch(kernel, Grid::items(batch * heads * tiles), arguments)?;
    }
    let Some(bias) = bias else { return Ok((grad_qkv, None)) };
    let grad_bias = unspecified(bias.len())?;
    let arguments = arguments![
        grad_bias,
        deltas,
        *grad,
        *qkv,
        *bias,
        *normalisers,
        scale,
        batch,
        tokens,
        heads,
        head_dim
    ];
    KERNELS.launch(kernels.backward_bias, Grid::items(heads * tiles * tiles), arguments)?;
    Ok((grad_qkv, Some(grad_bias)))
}

fn check(qkv: &Values, bias: Option<&Values>, dims: Dims) {
    let Dims { batch, queries, keys, heads, .. } = dims;
    assert_eq!(queries, keys, "all tokens attend");
    assert!(keys > 0, "attention to no tokens");
    assert_eq!(qkv.len(), batch * keys * 3 * dims.dim());
    assert!(bias.is_none_or(|bias| bias.len() == heads * queries * keys));
}

/// The kernels for heads of some length.
struct Kernels {
    forward: &'static str,
    backward_queries: &'static str,
    backward_keys: &'static str,
    backward_bias: &'static str,
    /// Queries of a block of the forward.
    queries: usize,
    /// Queries or keys of a block of the backward.
    tile: usize,
}

impl Kernels {
    fn of(head_dim: usize) -> Result<Self> {
        macro_rules! kernels {
            ($dim:literal, $queries:literal, $tile:literal) => {
                Self {
                    forward: concat!("forward_", $dim),
                    backward_queries: concat!("backward_queries_", $dim),
                    backward_keys: concat!("backward_keys_", $dim),
                    backward_bias: concat!("backward_bias_", $dim),
                    queries: $queries,
                    tile: $tile,
                }
            };
        }
        Ok(match head_dim {
            ..=16 => kernels!(16, 64, 32),
            17..=32 => kernels!(32, 64, 32),
            33..=64 => kernels!(64, 64, 32),
            65..=128 => kernels!(128, 32, 16),
            _ => {
                return Err(Error::Value(format!(
                    "attention on a card takes heads of at most 128 values, not of {head_dim}"
                )));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::attention as cpu;
    use crate::testing::noise;

    fn dims(batch: usize, tokens: usize, heads: usize, head_dim: usize) -> Dims {
        Dims { batch, queries: tokens, keys: tokens, heads, head_dim }
    }

    /// Compares everything; the scores are within `sharpness` or so.
    fn compare(dims: Dims, sharpness: f32, tolerance: f64) {
        let len = dims.batch * dims.keys * dims.dim();
        let qkv: Vec<f32> = noise(1, 3 * len).iter().map(|x| sharpness * x).collect();
        let (bias, grad) = (noise(2, dims.heads * dims.keys * dims.keys), noise(3, len));
        let (card_qkv, card_bias, card_grad) = (on_card(&qkv), on_card(&bias), on_card(&grad));
        let case = Case::relative(tolerance, "added up in another order");
        for (bias, card_bias) in [(None, None), (Some(&*bias), Some(&*card_bias))] {
            let (output, normalisers) = cpu::forward(&qkv, bias, dims).unwrap();
            let (card_output, card_normalisers) = forward(&card_qkv, card_bias, dims).unwrap();
            case.same(&card_output, &output);
            let (grad_qkv, grad_bias) = cpu::backward(&grad, &qkv, bias, &normalisers, dims).unwrap();
            let (card_grad_qkv, card_grad_bias) =
                backward(&card_grad, &card_qkv, card_bias, &card_normalisers, dims).unwrap();
            case.same(&card_grad_qkv, &grad_qkv);
            assert_eq!(card_grad_bias.is_some(), bias.is_some());
            if let (Some(card), Some(cpu)) = (&card_grad_bias, &grad_bias) {
                case.same(card, cpu);
            }
        }
    }

    #[test]
    fn outputs_and_gradients_are_those_of_the_cpu() {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 1), (2, 7, 3, 5), (2, 33, 2, 16), (1, 65, 2, 24)] {
            compare(dims(batch, tokens, heads, head_dim), 1.0, 1e-5);
        }
        // More than a tile of queries and of keys, for each of the longer heads.
        for (tokens, head_dim) in [(130, 32), (65, 64), (40, 80), (33, 128)] {
            compare(dims(2, tokens, 1, head_dim), 1.0, 1e-5);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        compare(dims(1, 70, 1, 16), 10.0, 2e-4);
    }

    #[test]
    fn no_image_is_no_work() {
        compare(dims(0, 4, 2, 8), 1.0, 0.0);
    }

    #[test]
    fn longer_heads_are_refused() {
        let message = forward(&on_card(&[0.0; 3 * 129]), None, dims(1, 1, 1, 129)).unwrap_err().to_string();
        assert!(message.contains("at most 128 values, not of 129"), "{message}");
    }
}
