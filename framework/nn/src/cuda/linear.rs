//! `y = x W^T + b` on rows.

use super::buffer::unspecified;
use super::gemm::{Matrix, gemm};
use super::module::{Grid, Source, arguments, source};
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
    let mut y = product(x, weight, bias, inputs, outputs)?;
    if let Some(bias) = bias {
        add_bias(&mut y, bias)?;
    }
    Ok(y)
}

/// Adds the bias to every row.
pub(super) fn add_bias(y: &mut Values, bias: &Values) -> Result<()> {
    assert!(y.len().is_multiple_of(bias.len()));
    KERNELS.launch("add_bias", Grid::elements(y.len()), arguments![*y, *bias, bias.len(), y.len()])
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
    let y = product(x, weight, bias, inputs, outputs)?;
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
    let y = product(x, weight, bias, inputs, outputs)?;
    let activations = unspecified(y.len())?;
    let arguments = arguments![y, activations, bias, outputs, y.len()];
    KERNELS.launch("add_bias_gelu", Grid::elements(y.len()), arguments)?;
    Ok([y, activations])
}

/// `x W^T`; the bias is only measured.
fn product(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
) -> Result<Buffer> {
    let rows = x.len() / inputs;
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let mut y = unspecified(rows * outputs)?;
    let weight = Matrix::new(weight, outputs, inputs);
    gemm(&mut y, Output::Replace, Matrix::new(x, rows, inputs), weight.t())?;
    Ok(y)
}

/// The gradient of the rows, `[R, I]`, from that of the output, `[R, O]`.
pub fn backward_input(grad: &Values, weight: &Values, inputs: usize, outputs: usize) -> Result<Buffer> {
    let rows = grad.len() / outputs;
    let mut grad_x = unspecified(rows * inputs)?;
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
    use super::super::testing::{Case, on_card};
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
}
