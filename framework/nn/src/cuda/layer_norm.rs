//! `LayerNorm` over the channels of each row, with the biased variance (Ba et al. 2016).

use super::buffer::{unspecified, unspecified_in};
use super::card::card;
use super::chunks::chunks;
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored};
use super::{Buffer, Output, Values};
use crate::Result;

static KERNELS: Source = source!("layer_norm");

/// Rows that make a block of the backward worth its partial sums: four of each warp.
const ROWS: usize = 32;

/// Blocks of the backward, two for each multiprocessor of a large card.
const BLOCKS: usize = 2 * 132;

/// Blocks whose sums are added up at once, as in `kernels/common.cuh`.
const GROUP: usize = 16;

/// What the backward needs of each row, `[R, 2]`.
#[derive(Debug)]
pub struct Statistics(Buffer);

/// Rows `[R, C]` normalised, times `weight`, plus `bias`.
pub fn forward(x: &Values, weight: &Values, bias: &Values, eps: f32) -> Result<(Buffer, Statistics)> {
    normalize(x, weight, bias, eps, Storage::F32)
}

/// [`forward`], as products take it.
pub fn operand(x: &Values, weight: &Values, bias: &Values, eps: f32) -> Result<(Buffer, Statistics)> {
    normalize(x, weight, bias, eps, Storage::of_operands())
}

fn normalize(
    x: &Values,
    weight: &Values,
    bias: &Values,
    eps: f32,
    storage: Storage,
) -> Result<(Buffer, Statistics)> {
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && bias.len() == channels && x.storage() == Storage::F32);
    let rows = x.len() / channels;
    let (y, statistics) = (unspecified_in(storage, x.len())?, unspecified(2 * rows)?);
    let arguments = arguments![y, statistics, *x, *weight, *bias, eps, rows, channels];
    KERNELS.launch_stored(storage.of(stored!("forward")), Grid::rows(rows), arguments)?;
    Ok((y, Statistics(statistics)))
}

/// What [`operand`] yielded, from its statistics.
pub fn recompute(x: &Values, statistics: &Statistics, weight: &Values, bias: &Values) -> Result<Buffer> {
    let channels = weight.len();
    assert!(2 * x.len() == statistics.0.len() * channels && bias.len() == channels);
    assert_eq!(x.storage(), Storage::F32);
    let storage = Storage::of_operands();
    let y = unspecified_in(storage, x.len())?;
    let arguments = arguments![y, statistics.0, *x, *weight, *bias, channels, x.len()];
    KERNELS.launch_stored(storage.of(stored!("recompute")), Grid::elements(x.len()), arguments)?;
    Ok(y)
}

/// Adds the gradient of the rows to `grad_x`, and writes or adds those of the weight and of the bias where they are asked for.
pub fn backward_onto(
    grad: &Values,
    x: &Values,
    statistics: &Statistics,
    weight: &Values,
    grad_x: &mut Buffer,
    sums: [Option<(&mut Values, Output)>; 2],
) -> Result<()> {
    let Statistics(statistics) = statistics;
    let (rows, channels) = (statistics.len() / 2, weight.len());
    assert_eq!([grad.len(), grad_x.len(), rows * channels], [x.len(); 3]);
    assert_eq!([x.storage(), grad_x.storage()], [Storage::F32; 2]);
    assert!(sums.iter().flatten().all(|(sum, _)| sum.len() == channels));
    let storage = grad.storage();
    // The next product backwards takes it.
    let rounded = match Storage::of_operands() {
        Storage::F32 => None,
        Storage::Bf16 => Some(unspecified_in(Storage::Bf16, x.len())?),
    };
    let rounded_values = rounded.as_deref();
    let [(grad_weight, add_weight), (grad_bias, add_bias)] = sums.map(|sum| match sum {
        Some((sum, mode)) => {
            let sum: &Values = sum;
            (Some(sum), usize::from(mode == Output::Add))
        }
        None => (None, 0),
    });
    if let Some(kernel) = backward_kernel(channels) {
        let blocks = rows.div_ceil(ROWS).clamp(1, BLOCKS);
        let groups = blocks.div_ceil(GROUP);
        let partial = unspecified((blocks + groups) * 2 * channels)?;
        let card = card()?;
        let arguments = arguments![
            **grad_x,
            rounded_values,
            grad_weight,
            grad_bias,
            add_weight,
            add_bias,
            partial,
            *card.counters(groups + 1)?,
            *grad,
            *x,
            *statistics,
            *weight,
            rows,
            channels
        ];
        KERNELS.launch_stored(storage.of(kernel), Grid::items(blocks), arguments)?;
    } else {
        let arguments = arguments![**grad_x, rounded_values, *grad, *x, *statistics, *weight, rows, channels];
        KERNELS.launch_stored(storage.of(stored!("backward_input")), Grid::rows(rows), arguments)?;
        let chunks = chunks(rows, channels);
        let partial = unspecified(chunks * 2 * channels)?;
        let arguments = arguments![partial, *grad, *x, *statistics, rows, channels];
        let grid = Grid::columns(channels, chunks, 1);
        KERNELS.launch_stored(storage.of(stored!("backward_params")), grid, arguments)?;
        let arguments = arguments![grad_weight, grad_bias, add_weight, add_bias, partial, chunks, channels];
        KERNELS.launch("finish_params", Grid::elements(channels), arguments)?;
    }
    grad_x.set_operand(rounded);
    Ok(())
}

/// The kernel that reads rows of so many channels once, for each way to store their gradient; none for long ones.
fn backward_kernel(channels: usize) -> Option<[&'static str; 2]> {
    match channels {
        ..=256 => Some(stored!("backward_8")),
        257..=512 => Some(stored!("backward_16")),
        513..=768 => Some(stored!("backward_24")),
        769..=1024 => Some(stored!("backward_32")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, in_bf16, on_card, rounded};
    use super::super::{download, operand as rounded_operand, take_operand};
    use super::*;
    use crate::cpu::{Buffer as CpuBuffer, layer_norm as cpu};
    use crate::testing::noise;

    #[test]
    fn rows_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for (rows, channels) in
            [(0, 4), (1, 5), (7, 37), (700, 3), (300, 768), (49, 24), (33, 400), (5, 1000), (9, 1100)]
        {
            let x: Vec<f32> = noise(1, rows * channels).iter().map(|x| 2.0 * x + 3.0).collect();
            let (weight, bias, grad) = (noise(2, channels), noise(3, channels), noise(4, rows * channels));
            let (card_x, card_weight, card_bias) = (on_card(&x), on_card(&weight), on_card(&bias));
            let (y, statistics) = cpu::forward(&x, &weight, &bias, 1e-6).unwrap();
            let (card_y, card_statistics) = forward(&card_x, &card_weight, &card_bias, 1e-6).unwrap();
            case.same(&card_y, &y);
            case.same(&recompute(&card_x, &card_statistics, &card_weight, &card_bias).unwrap(), &y);
            for (mode, other) in [(Output::Replace, Output::Add), (Output::Add, Output::Replace)] {
                let mut grad_x = CpuBuffer::copy(&noise(5, x.len()));
                let [mut w, mut b] = [6, 7].map(|seed| noise(seed, channels));
                let (mut card_grad_x, [mut card_w, mut card_b]) =
                    (on_card(&grad_x), [&w, &b].map(|sum| on_card(sum)));
                let sums = [Some((&mut *w, mode)), Some((&mut *b, other))];
                cpu::backward_onto(&grad, &x, &statistics, &weight, &mut grad_x, sums).unwrap();
                let sums = [Some((&mut *card_w, mode)), Some((&mut *card_b, other))];
                let (grad, statistics) = (on_card(&grad), &card_statistics);
                backward_onto(&grad, &card_x, statistics, &card_weight, &mut card_grad_x, sums).unwrap();
                case.same(&card_grad_x, &grad_x);
                case.same(&card_w, &w);
                case.same(&card_b, &b);
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_spoil_the_variance() {
        let x: Vec<f32> = noise(1, 64).iter().map(|x| x + 1000.0).collect();
        let (weight, bias) = (vec![1.0; 64], vec![0.0; 64]);
        let y = forward(&on_card(&x), &on_card(&weight), &on_card(&bias), 1e-3).unwrap().0;
        let case = Case::relative(2e-4, "what single precision leaves of a thousand");
        case.same(&y, &cpu::forward(&x, &weight, &bias, 1e-3).unwrap().0);
    }

    #[test]
    fn operands_and_their_gradients_are_in_bf16_and_statistics_are_not() {
        let (rows, channels) = (70, 37);
        let x: Vec<f32> = noise(1, rows * channels).iter().map(|x| 2.0 * x + 30.0).collect();
        let (weight, bias) = (noise(2, channels), noise(3, channels));
        let (card_x, card_weight, card_bias) = (on_card(&x), on_card(&weight), on_card(&bias));
        let (grad, host_grad) = rounded(&noise(4, x.len()));
        let (expected, statistics) = cpu::forward(&x, &weight, &bias, 1e-6).unwrap();
        let (mut grad_x, mut sum) = (CpuBuffer::zeros(x.len()), vec![0.0; channels]);
        let sums = [None, Some((&mut *sum, Output::Replace))];
        cpu::backward_onto(&host_grad, &x, &statistics, &weight, &mut grad_x, sums).unwrap();
        in_bf16(|| {
            let (y, statistics) = operand(&card_x, &card_weight, &card_bias, 1e-6).unwrap();
            let again = recompute(&card_x, &statistics, &card_weight, &card_bias).unwrap();
            for y in [y, again] {
                assert_eq!(y.storage(), Storage::Bf16);
                Case::bf16().same(&y, &expected);
            }
            let (y, _) = forward(&card_x, &card_weight, &card_bias, 1e-6).unwrap();
            let case = Case::relative(1e-5, "added up in another order");
            case.same(&y, &expected);
            let (mut card_grad_x, mut card_sum) = (on_card(&vec![0.0; x.len()]), on_card(&sum));
            let sums = [None, Some((&mut *card_sum, Output::Replace))];
            backward_onto(&grad, &card_x, &statistics, &card_weight, &mut card_grad_x, sums).unwrap();
            case.same(&card_grad_x, &grad_x);
            case.same(&card_sum, &sum);
            // It comes with its sum as products take it.
            let expected = rounded_operand(&card_grad_x).unwrap().unwrap();
            let rounded = take_operand(&mut card_grad_x).unwrap().unwrap();
            assert_eq!(download(&rounded).unwrap(), download(&expected).unwrap());
        });
    }
}
