//! `y = x W^T + b` on rows.

use super::buffer::unspecified_in;
use super::gemm::{Matrix, gemm};
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored};
use super::{Buffer, Output, Values, gelu};
use crate::Result;

static KERNELS: Source = source!("linear");

/// Rows `[R, I]` and the weight `[O, I]` to `[R, O]`.
pub fn forward(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
) -> Result<Buffer> {
    let mut y = product(x, weight, bias, inputs, outputs, x.storage())?;
    if let Some(bias) = bias {
        add_bias(&mut y, bias)?;
    }
    Ok(y)
}

/// Adds the bias to every row.
pub(super) fn add_bias(y: &mut Values, bias: &Values) -> Result<()> {
    assert!(y.len().is_multiple_of(bias.len()));
    let kernel = y.storage().of(stored!("add_bias"));
    KERNELS.launch_stored(kernel, Grid::elements(y.len()), arguments![*y, *bias, bias.len(), y.len()])
}

/// [`forward`], added to `residual`, `[R, O]`.
pub fn forward_residual(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
    residual: &Values,
) -> Result<Buffer> {
    let y = product(x, weight, bias, inputs, outputs, Storage::F32)?;
    assert_eq!(residual.len(), y.len());
    let arguments = arguments![y, bias, *residual, outputs, y.len()];
    KERNELS.launch("add_residual", Grid::elements(y.len()), arguments)?;
    Ok(y)
}

/// [`forward`] and the GELU of it.
pub fn forward_gelu(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
) -> Result<[Buffer; 2]> {
    let storage = x.storage();
    let y = product(x, weight, bias, inputs, outputs, storage)?;
    let activations = unspecified_in(storage, y.len())?;
    let arguments = arguments![y, activations, bias, outputs, y.len()];
    KERNELS.launch_stored(storage.of(stored!("add_bias_gelu")), Grid::elements(y.len()), arguments)?;
    Ok([y, activations])
}

/// `x W^T`; the bias is only measured.
fn product(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
    storage: Storage,
) -> Result<Buffer> {
    let rows = x.len() / inputs;
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let mut y = unspecified_in(storage, rows * outputs)?;
    let weight = Matrix::new(weight, outputs, inputs);
    gemm(&mut y, Output::Replace, Matrix::new(x, rows, inputs), weight.t())?;
    Ok(y)
}

/// The gradient of the rows, `[R, I]`, from that of the output, `[R, O]`.
pub fn backward_input(grad: &Values, weight: &Values, inputs: usize, outputs: usize) -> Result<Buffer> {
    let rows = grad.len() / outputs;
    let mut grad_x = unspecified_in(grad.storage(), rows * inputs)?;
    let weight = Matrix::new(weight, outputs, inputs);
    gemm(&mut grad_x, Output::Replace, Matrix::new(grad, rows, outputs), weight)?;
    Ok(grad_x)
}

/// [`backward_input`] of a layer behind a GELU, and through that: what went into the GELU, `hidden`, becomes its output again.
pub fn backward_input_gelu(
    grad: &Values,
    weight: &Values,
    inputs: usize,
    outputs: usize,
    hidden: &mut Values,
) -> Result<Buffer> {
    let mut grad_x = backward_input(grad, weight, inputs, outputs)?;
    gelu::backward_and_recompute(&mut grad_x, hidden)?;
    Ok(grad_x)
}

/// Writes or adds the gradient of the weight to `sum`, `[O, I]`.
pub fn backward_weight(
    grad: &Values,
    x: &Values,
    inputs: usize,
    outputs: usize,
    sum: &mut Values,
    mode: Output,
) -> Result<()> {
    let rows = x.len() / inputs;
    let (grad, x) = (Matrix::new(grad, rows, outputs), Matrix::new(x, rows, inputs));
    gemm(sum, mode, grad.t(), x)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, in_bf16, on_card, rounded};
    use super::*;
    use crate::cpu::{Buffer as CpuBuffer, linear as cpu};
    use crate::testing::noise;

    /// No row, one, more than a tile.
    const SIZES: [[usize; 3]; 4] = [[0, 3, 2], [1, 1, 1], [7, 33, 5], [300, 24, 96]];

    #[test]
    fn outputs_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for [rows, inputs, outputs] in SIZES {
            let (x, weight) = (noise(1, rows * inputs), noise(2, outputs * inputs));
            let (bias, residual) = (noise(3, outputs), noise(4, rows * outputs));
            let (card_x, card_weight, card_bias) = (on_card(&x), on_card(&weight), on_card(&bias));
            for (bias, card_bias) in [(None, None), (Some(&*bias), Some(&*card_bias))] {
                let y = forward(&card_x, &card_weight, card_bias, inputs, outputs).unwrap();
                case.same(&y, &cpu::forward(&x, &weight, bias, inputs, outputs).unwrap());
                let onto = &on_card(&residual);
                let y = forward_residual(&card_x, &card_weight, card_bias, inputs, outputs, onto).unwrap();
                case.same(&y, &cpu::forward_residual(&x, &weight, bias, inputs, outputs, &residual).unwrap());
                let both = forward_gelu(&card_x, &card_weight, card_bias, inputs, outputs).unwrap();
                let expected = cpu::forward_gelu(&x, &weight, bias, inputs, outputs).unwrap();
                both.iter().zip(&expected).for_each(|(card, cpu)| case.same(card, cpu));
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_cpu() {
        let case = Case::relative(1e-5, "added up in another order");
        for [rows, inputs, outputs] in SIZES {
            let (x, weight) = (noise(1, rows * inputs), noise(2, outputs * inputs));
            let (grad, sum) = (noise(3, rows * outputs), noise(4, outputs * inputs));
            let (card_x, card_weight, card_grad) = (on_card(&x), on_card(&weight), on_card(&grad));
            let grad_x = backward_input(&card_grad, &card_weight, inputs, outputs).unwrap();
            case.same(&grad_x, &cpu::backward_input(&grad, &weight, inputs, outputs).unwrap());
            let (mut hidden, mut expected_hidden) = (on_card(&x), CpuBuffer::copy(&x));
            let grad_x = backward_input_gelu(&card_grad, &card_weight, inputs, outputs, &mut hidden).unwrap();
            let expected = cpu::backward_input_gelu(&grad, &weight, inputs, outputs, &mut expected_hidden);
            case.same(&grad_x, &expected.unwrap());
            case.same(&hidden, &expected_hidden);
            for mode in [Output::Replace, Output::Add] {
                case.in_place(
                    &sum,
                    |sum| cpu::backward_weight(&grad, &x, inputs, outputs, sum, mode),
                    |sum| backward_weight(&card_grad, &card_x, inputs, outputs, sum, mode),
                );
            }
        }
    }

    #[test]
    fn what_is_stored_in_bf16_stays_so_but_for_sums_and_residuals() {
        let ([rows, inputs, outputs], case) = ([70, 33, 20], Case::bf16());
        let ((x, host_x), (weight, host_weight)) =
            (rounded(&noise(1, rows * inputs)), rounded(&noise(2, outputs * inputs)));
        let ((grad, host_grad), (hidden, host_hidden)) =
            (rounded(&noise(3, rows * outputs)), rounded(&noise(4, rows * inputs)));
        let (bias, residual) = (noise(5, outputs), noise(6, rows * outputs));
        let (card_bias, card_residual) = (on_card(&bias), on_card(&residual));
        in_bf16(|| {
            let y = forward(&x, &weight, Some(&card_bias), inputs, outputs).unwrap();
            assert_eq!(y.storage(), Storage::Bf16);
            case.same(&y, &cpu::forward(&host_x, &host_weight, Some(&bias), inputs, outputs).unwrap());
            let y = forward_residual(&x, &weight, Some(&card_bias), inputs, outputs, &card_residual).unwrap();
            assert_eq!(y.storage(), Storage::F32);
            let expected =
                cpu::forward_residual(&host_x, &host_weight, Some(&bias), inputs, outputs, &residual);
            Case::relative(1e-5, "added up in another order").same(&y, &expected.unwrap());
            let both = forward_gelu(&x, &weight, Some(&card_bias), inputs, outputs).unwrap();
            let expected = cpu::forward_gelu(&host_x, &host_weight, Some(&bias), inputs, outputs).unwrap();
            both.iter().zip(&expected).for_each(|(card, cpu)| case.same(card, cpu));
            let (mut hidden, mut expected_hidden) =
                (super::super::copy(&hidden).unwrap(), CpuBuffer::copy(&host_hidden));
            let grad_x = backward_input_gelu(&grad, &weight, inputs, outputs, &mut hidden).unwrap();
            let expected =
                cpu::backward_input_gelu(&host_grad, &host_weight, inputs, outputs, &mut expected_hidden);
            case.same(&grad_x, &expected.unwrap());
            case.same(&hidden, &expected_hidden);
            case.in_place(
                &vec![0.5; outputs * inputs],
                |sum| cpu::backward_weight(&host_grad, &host_x, inputs, outputs, sum, Output::Add),
                |sum| backward_weight(&grad, &x, inputs, outputs, sum, Output::Add),
            );
        });
    }
}
