//! Multi-head attention: softmax(q k^T / sqrt(d) + bias) v.

use super::buffer::{unspecified, unspecified_in};
use super::module::{Argument, Grid, Source, arguments, source};
use super::storage::{Storage, stored};
use super::{Buffer, Values, relative_position};
use crate::Result;
use crate::error::Error;

pub use crate::cpu::attention::{Dims, PositionTables, RelativePositions, bias_rows};

static KERNELS: Source = source!("attention");

/// On tensor cores.
static MMA_KERNELS: Source = source!("attention_mma");

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
    let kernels = Kernels::of(qkv.storage(), dims)?;
    let (bias, biases) = bias(qkv, positions, dims)?;
    let normalisers = unspecified(batch * heads * tokens)?;
    let output = unspecified_in(qkv.storage(), normalisers.len() * head_dim)?;
    let (bias, scale) = (bias.as_deref(), dims.scale());
    let arguments = arguments![output, normalisers, *qkv, bias, scale, tokens, heads, head_dim, biases];
    kernels.launch(kernels.forward, batch * heads * tokens.div_ceil(kernels.queries), arguments)?;
    Ok((output, Normalisers(normalisers)))
}

/// The gradients of `qkv` and of the tables of positions, from that of the output of [`forward`].
pub fn backward(
    grad: &Values,
    output: &Values,
    qkv: &Values,
    positions: Option<&RelativePositions<'_, Values>>,
    normalisers: &Normalisers,
    dims: Dims,
) -> Result<(Buffer, Vec<Buffer>)> {
    check(qkv, dims);
    let Dims { batch, keys: tokens, heads, head_dim, .. } = dims;
    let Normalisers(normalisers) = normalisers;
    assert_eq!((normalisers.len(), 3 * grad.len()), (batch * heads * tokens, qkv.len()));
    assert_eq!(output.len(), grad.len());
    assert_eq!([grad.storage(), output.storage()], [qkv.storage(); 2]);
    let (kernels, scale) = (Kernels::of(qkv.storage(), dims)?, dims.scale());
    let (mut grad_qkv, deltas) = (unspecified_in(qkv.storage(), qkv.len())?, unspecified(normalisers.len())?);
    let (bias, biases) = bias(qkv, positions, dims)?;
    let (given, blocks) = (bias.as_deref(), batch * heads * tokens.div_ceil(kernels.rows));
    let arguments = arguments![
        grad_qkv,
        deltas,
        *grad,
        *output,
        *qkv,
        given,
        *normalisers,
        scale,
        tokens,
        heads,
        head_dim,
        biases
    ];
    kernels.launch(kernels.backward_queries, blocks, arguments)?;
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
    kernels.launch(kernels.backward_keys, blocks, arguments)?;
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
    let pairs = tokens.div_ceil(kernels.rows) * tokens.div_ceil(kernels.tile);
    kernels.launch(kernels.backward_bias, bias.len() / (tokens * tokens) * pairs, arguments)?;
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

/// The kernels for an attention.
struct Kernels {
    source: &'static Source,
    forward: &'static str,
    backward_queries: &'static str,
    backward_keys: &'static str,
    backward_bias: &'static str,
    /// Queries of a block of the forward.
    queries: usize,
    /// Queries or keys of a block of the backward.
    rows: usize,
    /// Keys of a block of the gradient of the bias.
    tile: usize,
    /// Warps of a block.
    warps: usize,
}

impl Kernels {
    fn of(storage: Storage, dims: Dims) -> Result<Self> {
        let head_dim = dims.head_dim;
        if storage == Storage::Bf16 && head_dim.is_multiple_of(8) && head_dim <= 64 {
            return Ok(Self::on_tensor_cores(dims));
        }
        macro_rules! kernels {
            ($dim:literal, $queries:literal, $tile:literal) => {
                Self {
                    source: &KERNELS,
                    forward: storage.of(stored!("forward_", $dim)),
                    backward_queries: storage.of(stored!("backward_queries_", $dim)),
                    backward_keys: storage.of(stored!("backward_keys_", $dim)),
                    backward_bias: storage.of(stored!("backward_bias_", $dim)),
                    queries: $queries,
                    rows: $tile,
                    tile: $tile,
                    warps: 8,
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

    /// A warp takes 16 rows; a block at most four warps, and all blocks about as many.
    fn on_tensor_cores(Dims { keys, head_dim, .. }: Dims) -> Self {
        macro_rules! named {
            ($kernel:literal) => {
                if head_dim <= 32 { concat!($kernel, "_32") } else { concat!($kernel, "_64") }
            };
        }
        let warps = keys.div_ceil(16);
        let warps = warps.div_ceil(warps.div_ceil(4));
        Self {
            source: &MMA_KERNELS,
            forward: named!("forward"),
            backward_queries: named!("backward_queries"),
            backward_keys: named!("backward_keys"),
            backward_bias: named!("backward_bias"),
            queries: 16 * warps,
            rows: 16 * warps,
            tile: 64,
            warps,
        }
    }

    fn launch(&self, kernel: &'static str, blocks: usize, arguments: &[Argument]) -> Result<()> {
        self.source.launch_stored(kernel, Grid::items(blocks).of_warps(self.warps), arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::super::download;
    use super::super::testing::{Case, on_card, rounded};
    use super::*;
    use crate::cpu::attention as cpu;
    use crate::testing::{noise, wide};

    fn dims(batch: usize, tokens: usize, heads: usize, head_dim: usize) -> Dims {
        Dims { batch, queries: tokens, keys: tokens, heads, head_dim }
    }

    /// How results of the card that belong together are compared with those of the CPU.
    type Compare<'a> = &'a dyn Fn(&[Buffer], &[&[f32]]);

    /// Compares everything, without and with positions; the scores are within `sharpness` or so.
    fn compare(dims: Dims, sharpness: f32, stored: impl Fn(&[f32]) -> (Buffer, Vec<f32>), same: Compare<'_>) {
        let len = dims.batch * dims.keys * dims.dim();
        let qkv: Vec<f32> = noise(1, 3 * len).iter().map(|x| sharpness * x).collect();
        let ((card_qkv, qkv), (card_grad, grad)) = (stored(&qkv), stored(&noise(3, len)));
        let rows = (1..=dims.keys).rfind(|rows| rows * rows <= dims.keys && dims.keys.is_multiple_of(*rows));
        let grid = (rows.unwrap(), dims.keys / rows.unwrap());
        let (table, cls_table) = (
            noise(2, bias_rows(grid, false) * dims.heads),
            noise(4, bias_rows((1, dims.keys - 1), true) * dims.heads),
        );
        let axes = [grid.0, grid.1].map(|side| noise(side as u64, (2 * side - 1) * dims.head_dim));
        let (card_table, card_axes) = (on_card(&table), axes.each_ref().map(|axis| on_card(axis)));
        let card_cls_table = on_card(&cls_table);
        let cpu_tables =
            [PositionTables::Bias(&*table), PositionTables::Decomposed(axes.each_ref().map(Vec::as_slice))];
        let card_tables = [
            PositionTables::Bias(&*card_table),
            PositionTables::Decomposed(card_axes.each_ref().map(|axis| &**axis)),
        ];
        let positions = cpu_tables.into_iter().zip(card_tables).map(|(cpu, card)| {
            let cls_token = false;
            Some((
                RelativePositions { grid, cls_token, tables: cpu },
                RelativePositions { grid, cls_token, tables: card },
            ))
        });
        // A cls token before a row of others.
        let (grid, cls_token) = ((1, dims.keys - 1), true);
        let with_cls_token = (dims.keys > 1).then(|| {
            (
                RelativePositions { grid, cls_token, tables: PositionTables::Bias(&*cls_table) },
                RelativePositions { grid, cls_token, tables: PositionTables::Bias(&*card_cls_table) },
            )
        });
        for positions in [None].into_iter().chain(positions).chain([with_cls_token]) {
            let (own, card) =
                (positions.as_ref().map(|(own, _)| own), positions.as_ref().map(|(_, card)| card));
            let (output, normalisers) = cpu::forward(&qkv, own, dims).unwrap();
            let (card_output, card_normalisers) = forward(&card_qkv, card, dims).unwrap();
            let card_output = [card_output];
            same(&card_output, &[&output]);
            let (grad_qkv, grad_tables) =
                cpu::backward(&grad, &output, &qkv, own, &normalisers, dims).unwrap();
            let (card_grad_qkv, card_grad_tables) =
                backward(&card_grad, &card_output[0], &card_qkv, card, &card_normalisers, dims).unwrap();
            same(&[card_grad_qkv], &[&grad_qkv]);
            assert_eq!(card_grad_tables.len(), grad_tables.len());
            same(&card_grad_tables, &grad_tables.iter().map(|table| &**table).collect::<Vec<_>>());
        }
    }

    fn compare_in_f32(dims: Dims, sharpness: f32, tolerance: f64) {
        let case = Case::relative(tolerance, "added up in another order");
        let stored = |values: &[f32]| (on_card(values), values.to_vec());
        compare(dims, sharpness, stored, &|card, cpu| {
            card.iter().zip(cpu).for_each(|(card, cpu)| case.same(card, cpu));
        });
    }

    /// With probabilities, gradients of scores and results rounded to bf16: they are off by less than a hundredth, all together.
    fn compare_in_bf16(dims: Dims, sharpness: f32) {
        let near = |card: &[Buffer], cpu: &[&[f32]]| {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let card: Vec<f64> = card.iter().flat_map(|card| wide(&download(card).unwrap())).collect();
            let cpu = wide(&cpu.concat());
            assert_eq!(card.len(), cpu.len());
            let off = norm(&mut card.iter().zip(&cpu).map(|(card, cpu)| card - cpu));
            // Where nothing but rounding is left: the scores of one token have no gradient.
            let limit = 1e-2 * norm(&mut cpu.iter().copied()) + 1e-5;
            assert!(off <= limit, "{dims:?}: off by {off}, limit {limit}");
        };
        compare(dims, sharpness, rounded, &near);
    }

    #[test]
    fn outputs_and_gradients_are_those_of_the_cpu() {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 1), (2, 7, 3, 5), (2, 33, 2, 16), (1, 65, 2, 24)] {
            compare_in_f32(dims(batch, tokens, heads, head_dim), 1.0, 1e-5);
        }
        // More than a tile of queries and of keys, for each of the longer heads.
        for (tokens, head_dim) in [(130, 32), (65, 64), (40, 80), (33, 128)] {
            compare_in_f32(dims(2, tokens, 1, head_dim), 1.0, 1e-5);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        compare_in_f32(dims(1, 70, 1, 16), 10.0, 2e-4);
        compare_in_bf16(dims(1, 70, 1, 16), 3.0);
    }

    #[test]
    fn on_tensor_cores_outputs_and_gradients_are_those_of_the_cpu() {
        let sizes = [(1, 24), (7, 32), (49, 64), (50, 24), (196, 32), (197, 64), (256, 8), (257, 40)];
        for (tokens, head_dim) in sizes {
            compare_in_bf16(dims(2, tokens, 2, head_dim), 1.0);
        }
    }

    #[test]
    fn in_bf16_heads_that_tensor_cores_do_not_take_are_those_of_the_cpu() {
        for (tokens, head_dim) in [(65, 20), (33, 72)] {
            compare_in_bf16(dims(2, tokens, 2, head_dim), 1.0);
        }
    }

    #[test]
    fn no_image_is_no_work() {
        compare_in_f32(dims(0, 4, 2, 8), 1.0, 0.0);
        compare_in_bf16(dims(0, 4, 2, 8), 1.0);
    }

    #[test]
    fn longer_heads_are_refused() {
        let message = forward(&on_card(&[0.0; 3 * 129]), None, dims(1, 1, 1, 129)).unwrap_err().to_string();
        assert!(message.contains("at most 128 values, not of 129"), "{message}");
    }
}
