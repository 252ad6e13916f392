//! `y = x W^T + b` on rows.

use super::buffer::unspecified_in;
use super::chunks::sum_rows;
use super::gemm::{Matrix, gemm, gemm_bias, gemm_row_sums};
use super::module::{Grid, Source, arguments, source};
use super::storage::{Storage, stored, widened};
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
    product(x, weight, bias, inputs, outputs, (x.storage(), None))
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
    product(x, weight, bias, inputs, outputs, (Storage::F32, Some(residual)))
}

/// [`forward`] and the GELU of it.
pub fn forward_gelu(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
) -> Result<[Buffer; 2]> {
    let y = forward(x, weight, bias, inputs, outputs)?;
    let activations = gelu::forward(&y)?;
    Ok([y, activations])
}

/// `x W^T`, plus the bias and what else is to be added, stored in some way.
fn product(
    x: &Values,
    weight: &Values,
    bias: Option<&Values>,
    inputs: usize,
    outputs: usize,
    (storage, addend): (Storage, Option<&Values>),
) -> Result<Buffer> {
    let rows = x.len() / inputs;
    let mut y = unspecified_in(storage, rows * outputs)?;
    let weight = Matrix::new(weight, outputs, inputs).t();
    affine(&mut y, addend, Matrix::new(x, rows, inputs), weight, bias)?;
    Ok(y)
}

/// Writes the product of `[R, I]` and `[I, O]` to `y`, plus `addend`, `[R, O]`, plus the bias, `[O]`, in every row.
pub(super) fn affine(
    y: &mut Values,
    addend: Option<&Values>,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    bias: Option<&Values>,
) -> Result<()> {
    if gemm_bias(y, addend, x, weight, bias)? {
        return Ok(());
    }
    gemm(y, Output::Replace, x, weight)?;
    if addend.is_none() && bias.is_none() {
        return Ok(());
    }
    let wide = bias.filter(|bias| bias.storage() != Storage::F32).map(widened).transpose()?;
    let (bias, columns) = (wide.as_deref().or(bias), bias.map_or(1, Values::len));
    let kernel = y.storage().of(stored!("add_to_rows"));
    let arguments = arguments![*y, addend, bias, columns, y.len()];
    KERNELS.launch_stored(kernel, Grid::elements(y.len()), arguments)
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

/// [`backward_weight`], and the same for the gradient of the bias, `[O]`.
pub fn backward_params(
    grad: &Values,
    x: &Values,
    inputs: usize,
    outputs: usize,
    (sum, mode): (&mut Values, Output),
    (bias_sum, bias_mode): (&mut Values, Output),
) -> Result<()> {
    let rows = x.len() / inputs;
    let (grad_rows, x) = (Matrix::new(grad, rows, outputs).t(), Matrix::new(x, rows, inputs));
    // What comes with a product replaces what is there.
    if bias_mode == Output::Replace && gemm_row_sums(sum, mode, grad_rows, x, bias_sum)? {
        return Ok(());
    }
    gemm(sum, mode, grad_rows, x)?;
    sum_rows(grad, bias_sum, bias_mode)
}

#[cfg(test)]
mod tests {
    use super::super::operand;
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
                for bias_mode in [Output::Replace, Output::Add] {
                    let (mut sums, mut bias_sums) = (sum.clone(), noise(5, outputs));
                    let (mut card_sums, mut card_bias_sums) = (on_card(&sum), on_card(&bias_sums));
                    let (weight, bias) = ((&mut *sums, mode), (&mut *bias_sums, bias_mode));
                    cpu::backward_params(&grad, &x, inputs, outputs, weight, bias).unwrap();
                    let (weight, bias) = ((&mut *card_sums, mode), (&mut *card_bias_sums, bias_mode));
                    backward_params(&card_grad, &card_x, inputs, outputs, weight, bias).unwrap();
                    case.same(&card_sums, &sums);
                    case.same(&card_bias_sums, &bias_sums);
                }
            }
        }
    }

    #[test]
    fn what_is_stored_in_bf16_stays_so_but_for_sums_and_residuals() {
        // With odd sizes the library has products alone.
        for sizes in [[70, 33, 20], [70, 32, 24]] {
            in_bf16_as_on_the_cpu(sizes);
        }
    }

    fn in_bf16_as_on_the_cpu([rows, inputs, outputs]: [usize; 3]) {
        let case = Case::bf16();
        let ((x, host_x), (weight, host_weight)) =
            (rounded(&noise(1, rows * inputs)), rounded(&noise(2, outputs * inputs)));
        let ((grad, host_grad), (hidden, host_hidden)) =
            (rounded(&noise(3, rows * outputs)), rounded(&noise(4, rows * inputs)));
        let (bias, residual) = (noise(5, outputs), noise(6, rows * outputs));
        let (card_bias, card_residual) = (on_card(&bias), on_card(&residual));
        in_bf16(|| {
            let y = forward(&x, &weight, Some(&card_bias), inputs, outputs).unwrap();
            assert_eq!(y.storage(), Storage::Bf16);
            let expected = cpu::forward(&host_x, &host_weight, Some(&bias), inputs, outputs).unwrap();
            case.same(&y, &expected);
            let rounded_bias = operand(&card_bias).unwrap().unwrap();
            case.same(&forward(&x, &weight, Some(&rounded_bias), inputs, outputs).unwrap(), &expected);
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
            let (mut sum, mut bias_sum) = (vec![0.5; outputs * inputs], vec![0.0; outputs]);
            let (mut card_sum, mut card_bias_sum) = (on_card(&sum), on_card(&bias_sum));
            let (weight, bias) = ((&mut *sum, Output::Add), (&mut *bias_sum, Output::Replace));
            cpu::backward_params(&host_grad, &host_x, inputs, outputs, weight, bias).unwrap();
            let (weight, bias) = ((&mut *card_sum, Output::Add), (&mut *card_bias_sum, Output::Replace));
            backward_params(&grad, &x, inputs, outputs, weight, bias).unwrap();
            let case = Case::relative(1e-5, "added up in another order");
            case.same(&card_sum, &sum);
            case.same(&card_bias_sum, &bias_sum);
        });
    }
}
