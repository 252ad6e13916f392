//! Batch normalisation of rows `[N, C]`.

use cudarc::driver::CudaSlice;

use super::buffer::{copy, scratch, unspecified};
use super::chunks::chunks;
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

static KERNELS: Source = source!("batch_norm");

/// What a batch is normalised by: mean and biased variance of each channel.
#[derive(Debug)]
pub struct Moments {
    /// `[C]`.
    pub mean: Buffer,
    /// `[C]`; divided by `N`.
    pub var: Buffer,
}

/// The moments of the columns of `[N, channels]`, summed in f64.
pub fn moments(x: &Values, channels: usize) -> Result<Moments> {
    let rows = x.len() / channels;
    assert!(rows > 0 && x.len() == rows * channels);
    let chunks = chunks(rows, channels);
    let partial: CudaSlice<f64> = scratch(chunks * 2 * channels)?;
    let grid = Grid::columns(channels, chunks, 1);
    KERNELS.launch("sum_moments", grid, arguments![partial, *x, rows, channels])?;
    let moments = Moments { mean: unspecified(channels)?, var: unspecified(channels)? };
    let arguments = arguments![moments.mean, moments.var, *x, partial, chunks, rows, channels];
    KERNELS.launch("finish_moments", Grid::elements(channels), arguments)?;
    Ok(moments)
}

/// The moments that were collected in training, `[C]` each.
pub fn running_moments(mean: &Values, var: &Values) -> Result<Moments> {
    Ok(Moments { mean: copy(mean)?, var: copy(var)? })
}

/// Moves running moments by `momentum` towards those of a batch of `rows` rows; the running variance is unbiased.
pub fn update_running(
    mean: &mut Values,
    var: &mut Values,
    batch: &Moments,
    rows: usize,
    momentum: f32,
) -> Result<()> {
    let unbiased = rows as f32 / (rows as f32 - 1.0);
    for (running, batch, factor) in [(mean, &batch.mean, 1.0_f32), (var, &batch.var, unbiased)] {
        assert_eq!(running.len(), batch.len());
        let arguments = arguments![*running, *batch, factor, momentum, batch.len()];
        KERNELS.launch("update_running", Grid::elements(batch.len()), arguments)?;
    }
    Ok(())
}

/// `(x - mean) / sqrt(var + eps)` of rows `[N, C]`, times the first of `affine` plus the second, `[C]` each.
pub fn forward(x: &Values, moments: &Moments, affine: Option<[&Values; 2]>, eps: f32) -> Result<Buffer> {
    let Moments { mean, var } = moments;
    let channels = mean.len();
    assert!(x.len().is_multiple_of(channels));
    assert!(affine.iter().flatten().all(|values| values.len() == channels));
    let [weight, bias] = [affine.map(|[weight, _]| weight), affine.map(|[_, bias]| bias)];
    let y = unspecified(x.len())?;
    let arguments = arguments![y, *x, *mean, *var, weight, bias, eps, channels, x.len()];
    KERNELS.launch("forward", Grid::elements(x.len()), arguments)?;
    Ok(y)
}

/// The gradients of weight and bias, `[C]` each, from that of the output.
pub fn grad_affine(x: &Values, grad: &Values, moments: &Moments, eps: f32) -> Result<[Buffer; 2]> {
    let Moments { mean, var } = moments;
    let channels = mean.len();
    assert!(x.len().is_multiple_of(channels) && grad.len() == x.len());
    let (rows, chunks) = (x.len() / channels, chunks(x.len() / channels, channels));
    let partial = unspecified(chunks * 2 * channels)?;
    let arguments = arguments![partial, *grad, *x, *mean, rows, channels];
    KERNELS.launch("sum_grads", Grid::columns(channels, chunks, 1), arguments)?;
    let [grad_weight, grad_bias] = [unspecified(channels)?, unspecified(channels)?];
    let arguments = arguments![grad_weight, grad_bias, partial, *var, eps, chunks, channels];
    KERNELS.launch("finish_grads", Grid::elements(channels), arguments)?;
    Ok([grad_weight, grad_bias])
}

/// Replaces the gradient of the output by that of the input. `batch`: the gradients of weight and bias ([`grad_affine`]) of all rows that
/// the moments are of, and how many these are; `None` where the moments are given, and so have no gradient.
pub fn grad_input(
    x: &Values,
    grad: &mut Values,
    moments: &Moments,
    weight: Option<&Values>,
    eps: f32,
    batch: Option<([&Values; 2], usize)>,
) -> Result<()> {
    let Moments { mean, var } = moments;
    let channels = mean.len();
    assert!(x.len().is_multiple_of(channels) && grad.len() == x.len());
    assert!(weight.is_none_or(|weight| weight.len() == channels));
    assert!(batch.is_none_or(|(grads, _)| grads.iter().all(|grad| grad.len() == channels)));
    let rows = batch.map_or(0, |(_, rows)| rows);
    let [grad_weight, grad_bias] = [batch.map(|([weight, _], _)| weight), batch.map(|([_, bias], _)| bias)];
    let arguments =
        arguments![*grad, *x, *mean, *var, weight, grad_weight, grad_bias, eps, rows, channels, x.len()];
    KERNELS.launch("backward_input", Grid::elements(x.len()), arguments)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::batch_norm as cpu;
    use crate::testing::noise;

    const SIZES: [(usize, usize); 4] = [(1, 1), (7, 33), (300, 24), (5000, 3)];

    #[test]
    fn moments_are_those_of_the_cpu() {
        let case = Case::relative(1e-6, "rounded once, from sums in double precision");
        for (rows, channels) in SIZES {
            let x: Vec<f32> = noise(1, rows * channels).iter().map(|x| 1000.0 + x).collect();
            let (expected, actual) =
                (cpu::moments(&x, channels).unwrap(), moments(&on_card(&x), channels).unwrap());
            case.same(&actual.mean, &expected.mean);
            case.same(&actual.var, &expected.var);
            let (mean, mut var) = (noise(2, channels), vec![1.0; channels]);
            case.in_place(
                &mean,
                |mean| cpu::update_running(mean, &mut var, &expected, rows + 1, 0.1),
                |mean| update_running(mean, &mut on_card(&vec![1.0; channels]), &actual, rows + 1, 0.1),
            );
            case.in_place(
                &vec![1.0; channels],
                |var| cpu::update_running(&mut mean.clone(), var, &expected, rows + 1, 0.1),
                |var| update_running(&mut on_card(&mean), var, &actual, rows + 1, 0.1),
            );
        }
    }

    #[test]
    fn rows_and_gradients_are_those_of_the_cpu() {
        let case = Case::relative(2e-5, "added up in another order");
        for (rows, channels) in SIZES {
            let (x, grad) = (noise(1, rows * channels), noise(2, rows * channels));
            let (weight, bias) = (noise(3, channels), noise(4, channels));
            let moments = cpu::moments(&x, channels).unwrap();
            let (card_x, card_weight, card_bias) = (on_card(&x), on_card(&weight), on_card(&bias));
            let card_moments = running_moments(&on_card(&moments.mean), &on_card(&moments.var)).unwrap();
            let affine = [None, Some(([&*weight, &*bias], [&*card_weight, &*card_bias]))];
            for (affine, of_batch) in affine.into_iter().flat_map(|affine| [(affine, true), (affine, false)])
            {
                let (affine, card_affine) = (affine.map(|(cpu, _)| cpu), affine.map(|(_, card)| card));
                let y = forward(&card_x, &card_moments, card_affine, 1e-2).unwrap();
                case.same(&y, &cpu::forward(&x, &moments, affine, 1e-2).unwrap());
                let (weight, card_weight) =
                    (affine.map(|[weight, _]| weight), card_affine.map(|[weight, _]| weight));
                let (mut grad_x, mut card_grad_x) = (grad.clone(), on_card(&grad));
                let grads = cpu::grad_affine(&x, &grad, &moments, 1e-2).unwrap();
                let card_grads = grad_affine(&card_x, &card_grad_x, &card_moments, 1e-2).unwrap();
                let batch = of_batch.then(|| (grads.each_ref().map(|grad| &**grad), rows));
                cpu::grad_input(&x, &mut grad_x, &moments, weight, 1e-2, batch).unwrap();
                let batch = of_batch.then(|| (card_grads.each_ref().map(|grad| &**grad), rows));
                grad_input(&card_x, &mut card_grad_x, &card_moments, card_weight, 1e-2, batch).unwrap();
                case.same(&card_grad_x, &grad_x);
                card_grads.iter().zip(&grads).for_each(|(card, cpu)| case.same(card, cpu));
            }
        }
    }
}
