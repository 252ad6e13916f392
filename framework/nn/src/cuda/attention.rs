//! Multi-head attention: softmax(q k^T / sqrt(d) + bias) v.

use super::buffer::{unspecified, unspecified_in};
use super::module::{Grid, Source, arguments, source};
use super::storage::stored;
use super::{Buffer, Values, relative_position};
use crate::Result;
use crate::error::Error;

pub use crate::cpu::attention::{Dims, PositionTables, RelativePositions, offsets};

static KERNELS: Source = source!("attention");

/// The binary logarithms of the normalisers `[B, H, N]`, for the backward.
#[derive(Debug)]
pub struct Normalisers(Buffer);

/// Self-attention. `qkv` is `[B, N, 3, H, d]`. Returns the output `[B, N, D]` and the binary logarithms of the normalisers `[B, H, N]`.
///
/// Unlike on the CPU, the biases of all scores are held for as long as it takes.
pub fn forward(
    qkv: &Values,
    positions: Option<&RelativePositions<'_, Values>>,
    dims: Dims,
) -> Result<(Buffer, Normalisers)> {
    check(qkv, dims);
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let kernels = Kernels::of(head_dim)?;
    let (bias, biases) = bias(qkv, positions, dims)?;
    let normalisers = unspecified(batch * heads * tokens)?;
    let storage = qkv.storage();
    let output = unspecified_in(storage, normalisers.len() * head_dim)?;
    let (bias, scale) = (bias.as_deref(), dims.scale());
    let arguments = arguments![output, normalisers, *qkv, bias, scale, tokens, heads, head_dim, biases];
    let grid = Grid::items(batch * heads * tokens.div_ceil(kernels.queries));
    KERNELS.launch_stored(storage.of(kernels.forward), grid, arguments)?;
    Ok((output, Normalisers(normalisers)))
}

/// The gradients of `qkv` and of the tables of positions, from that of the output of [`forward`].
pub fn backward(
    grad: &Values,
    qkv: &Values,
    positions: Option<&RelativePositions<'_, Values>>,
    normalisers: &Normalisers,
    dims: Dims,
) -> Result<(Buffer, Vec<Buffer>)> {
    check(qkv, dims);
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let Normalisers(normalisers) = normalisers;
    assert_eq!((normalisers.len(), 3 * grad.len()), (batch * heads * tokens, qkv.len()));
    assert_eq!(grad.storage(), qkv.storage());
    let storage = qkv.storage();
    let (kernels, scale) = (Kernels::of(head_dim)?, dims.scale());
    let (mut grad_qkv, deltas) = (unspecified_in(storage, qkv.len())?, unspecified(normalisers.len())?);
    let (bias, biases) = bias(qkv, positions, dims)?;
    let given = bias.as_deref();
    let arguments = arguments![
        grad_qkv,
        deltas,
        *grad,
        *qkv,
        given,
        *normalisers,
        scale,
        tokens,
        heads,
        head_dim,
        biases
    ];
    let tiles = tokens.div_ceil(kernels.tile);
    for kernel in [kernels.backward_queries, kernels.backward_keys] {
        KERNELS.launch_stored(storage.of(kernel), Grid::items(batch * heads * tiles), arguments)?;
    }
    let (Some(positions), Some(bias)) = (positions, bias) else { return Ok((grad_qkv, Vec::new())) };
    let grad_bias = unspecified(bias.len())?;
    let arguments = arguments![
        grad_bias,
        deltas,
        *grad,
        *qkv,
        bias,
        *normalisers,
        scale,
        batch,
        tokens,
        heads,
        head_dim,
        biases
    ];
    let pairs = bias.len() / (tokens * tokens) * tiles * tiles;
    KERNELS.launch_stored(storage.of(kernels.backward_bias), Grid::items(pairs), arguments)?;
    drop(bias);
    let grad_tables = relative_position::backward(&grad_bias, qkv, positions, dims, &mut grad_qkv)?;
    Ok((grad_qkv, grad_tables))
}

fn check(qkv: &Values, dims: Dims) {
    let Dims { batch, queries, keys, .. } = dims;
    assert_eq!(queries, keys, "all tokens attend");
    assert!(keys > 0, "attention to no tokens");
    assert_eq!(qkv.len(), batch * keys * 3 * dims.dim());
}

/// The biases of all scores, `[biases, N, N]`, and how many there are; one where there are none.
fn bias(
    qkv: &Values,
    positions: Option<&RelativePositions<'_, Values>>,
    dims: Dims,
) -> Result<(Option<Buffer>, usize)> {
    let Some(positions) = positions else { return Ok((None, 1)) };
    let biases = match positions.tables {
        PositionTables::Bias(_) => dims.heads,
        PositionTables::Decomposed(_) => dims.batch * dims.heads,
    };
    // Without images there is nothing to divide among them.
    Ok((Some(relative_position::forward(qkv, positions, dims)?), biases.max(dims.heads)))
}

/// The kernels for heads of some length.
struct Kernels {
    /// For each way to store values, as the others.
    forward: [&'static str; 2],
    backward_queries: [&'static str; 2],
    backward_keys: [&'static str; 2],
    backward_bias: [&'static str; 2],
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
                    forward: stored!("forward_", $dim),
                    backward_queries: stored!("backward_queries_", $dim),
                    backward_keys: stored!("backward_keys_", $dim),
                    backward_bias: stored!("backward_bias_", $dim),
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
    use super::super::testing::{Case, in_bf16, on_card, rounded};
    use super::*;
    use crate::cpu::attention as cpu;
    use crate::testing::noise;

    fn dims(batch: usize, tokens: usize, heads: usize, head_dim: usize) -> Dims {
        Dims { batch, queries: tokens, keys: tokens, heads, head_dim }
    }

    /// Compares everything, without and with positions; the scores are within `sharpness` or so.
    fn compare(dims: Dims, sharpness: f32, tolerance: f64) {
        let len = dims.batch * dims.keys * dims.dim();
        let qkv: Vec<f32> = noise(1, 3 * len).iter().map(|x| sharpness * x).collect();
        let grad = noise(3, len);
        let (card_qkv, card_grad) = (on_card(&qkv), on_card(&grad));
        let case = Case::relative(tolerance, "added up in another order");
        let rows = (1..=dims.keys).rfind(|rows| rows * rows <= dims.keys && dims.keys.is_multiple_of(*rows));
        let grid = (rows.unwrap(), dims.keys / rows.unwrap());
        let table = noise(2, offsets(grid) * dims.heads);
        let axes = [grid.0, grid.1].map(|side| noise(side as u64, (2 * side - 1) * dims.head_dim));
        let (card_table, card_axes) = (on_card(&table), axes.each_ref().map(|axis| on_card(axis)));
        let cpu_tables =
            [PositionTables::Bias(&*table), PositionTables::Decomposed(axes.each_ref().map(Vec::as_slice))];
        let card_tables = [
            PositionTables::Bias(&*card_table),
            PositionTables::Decomposed(card_axes.each_ref().map(|axis| &**axis)),
        ];
        let positions = cpu_tables.into_iter().zip(card_tables).map(|(cpu, card)| {
            Some((RelativePositions { grid, tables: cpu }, RelativePositions { grid, tables: card }))
        });
        for positions in std::iter::once(None).chain(positions) {
            let (own, card) =
                (positions.as_ref().map(|(own, _)| own), positions.as_ref().map(|(_, card)| card));
            let (output, normalisers) = cpu::forward(&qkv, own, dims).unwrap();
            let (card_output, card_normalisers) = forward(&card_qkv, card, dims).unwrap();
            case.same(&card_output, &output);
            let (grad_qkv, grad_tables) = cpu::backward(&grad, &qkv, own, &normalisers, dims).unwrap();
            let (card_grad_qkv, card_grad_tables) =
                backward(&card_grad, &card_qkv, card, &card_normalisers, dims).unwrap();
            case.same(&card_grad_qkv, &grad_qkv);
            assert_eq!(card_grad_tables.len(), grad_tables.len());
            for (card, cpu) in card_grad_tables.iter().zip(&grad_tables) {
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
    fn in_bf16_scores_and_sums_are_not_rounded() {
        let dims = dims(2, 65, 2, 24);
        let len = dims.batch * dims.keys * dims.dim();
        let ((qkv, host_qkv), (grad, host_grad)) = (rounded(&noise(1, 3 * len)), rounded(&noise(3, len)));
        let (output, normalisers) = cpu::forward(&host_qkv, None, dims).unwrap();
        let (grad_qkv, _) = cpu::backward(&host_grad, &host_qkv, None, &normalisers, dims).unwrap();
        in_bf16(|| {
            let (card_output, card_normalisers) = forward(&qkv, None, dims).unwrap();
            Case::bf16().same(&card_output, &output);
            let (card_grad_qkv, _) = backward(&grad, &qkv, None, &card_normalisers, dims).unwrap();
            Case::bf16().same(&card_grad_qkv, &grad_qkv);
        });
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
