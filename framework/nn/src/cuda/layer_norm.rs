//! `LayerNorm` over the channels of each row, with the biased variance (Ba et al. 2016).

use super::buffer::unspecified;
use super::chunks::chunks;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("layer_norm");

/// What the backward needs of each row, `[R, 2]`.
#[derive(Debug)]
pub struct Statistics(Buffer);

/// Rows `[R, C]` normalised, times `weight`, plus `bias`.
pub fn forward(x: &Values, weight: &Values, bias: &Values, eps: f32) -> Result<(Buffer, Statistics)> {
    let channels = weight.len();
    assert!(x.len().is_multiple_of(channels) && bias.len() == channels);
    let rows = x.len() / channels;
    let (y, statistics) = (unspecified(x.len())?, unspecified(2 * rows)?);
    let arguments = arguments![y, statistics, *x, *weight, *bias, eps, rows, channels];
    KERNELS.launch("forward", Grid::rows(rows), arguments)?;
    Ok((y, Statistics(statistics)))
}

/// What [`forward`] yielded, from its statistics.
pub fn recompute(x: &Values, statistics: &Statistics, weight: &Values, bias: &Values) -> Result<Buffer> {
    let channels = weight.len();
    assert!(2 * x.len() == statistics.0.len() * channels && bias.len() == channels);
    let y = unspecified(x.len())?;
    let arguments = arguments![y, statistics.0, *x, *weight, *bias, channels, x.len()];
    KERNELS.launch("recompute", Grid::elements(x.len()), arguments)?;
    Ok(y)
}

/// Adds the gradient of the rows to `grad_x`; returns those of the weight and of the bias.
pub fn backward_onto(
    grad: &Values,
    x: &Values,
    statistics: &Statistics,
    weight: &Values,
    grad_x: &mut Values,
) -> Result<[Buffer; 2]> {
    let Statistics(statistics) = statistics;
    let (rows, channels) = (statistics.len() / 2, weight.len());
    assert_eq!([grad.len(), grad_x.len(), rows * channels], [x.len(); 3]);
    let arguments = arguments![*grad_x, *grad, *x, *statistics, *weight, rows, channels];
    KERNELS.launch("backward_input", Grid::rows(rows), arguments)?;
    let chunks = chunks(rows, channels);
    let partial = unspecified(chunks * 2 * channels)?;
    let arguments = arguments![partial, *grad, *x, *statistics, rows, channels];
    KERNELS.launch("backward_params", Grid::columns(channels, chunks, 1), arguments)?;
    let grads = [unspecified(channels)?, unspecified(channels)?];
    let arguments = arguments![grads[0], grads[1], partial, chunks, channels];
    KERNELS.launch("finish_params", Grid::elements(channels), arguments)?;
    Ok(grads)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::layer_norm as cpu;
    use crate::testing::noise;

    #[test]
    fn rows_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for (rows, channels) in [(0, 4), (1, 5), (7, 37), (70, 3), (300, 768), (49, 24)] {
            let x: Vec<f32> = noise(1, rows * channels).iter().map(|x| 2.0 * x + 3.0).collect();
            let (weight, bias, grad) = (noise(2, channels), noise(3, channels), noise(4, rows * channels));
            let (card_x, card_weight, card_bias) = (on_card(&x), on_card(&weight), on_card(&bias));
            let (y, statistics) = cpu::forward(&x, &weight, &bias, 1e-6).unwrap();
            let (card_y, card_statistics) = forward(&card_x, &card_weight, &card_bias, 1e-6).unwrap();
            case.same(&card_y, &y);
            case.same(&recompute(&card_x, &card_statistics, &card_weight, &card_bias).unwrap(), &y);
            let (mut grad_x, mut card_grad_x) = (noise(5, x.len()), on_card(&noise(5, x.len())));
            let grads = cpu::backward_onto(&grad, &x, &statistics, &weight, &mut grad_x).unwrap();
            let (card_grad, card_grad_x) = (on_card(&grad), &mut card_grad_x);
            let card_grads =
                backward_onto(&card_grad, &card_x, &card_statistics, &card_weight, card_grad_x).unwrap();
            case.same(card_grad_x, &grad_x);
            card_grads.iter().zip(&grads).for_each(|(card, cpu)| case.same(card, cpu));
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
}
