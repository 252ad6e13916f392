//! `y = x W^T + b` on rows.

use super::chunks::sum_rows;
use super::gemm::{AHEAD, Matrix, Segment, Threads, gemm, gemm_then};
use super::simd::{prefetch, vectorized};
use super::{Buffer, Output, gelu, reduce};
use crate::Result;

/// Rows `[R, I]` and the weight `[O, I]` to `[R, O]`.
pub fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
    outputs: usize,
) -> Result<Buffer> {
    Ok(product(x, weight, inputs, outputs, &mut [], |Segment { cols, out, .. }| {
        if let Some(bias) = bias {
            vectorized(|| reduce::add(out, &bias[cols]));
        }
    }))
}

/// [`forward`], added to `residual`, `[R, O]`.
pub fn forward_residual(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
    outputs: usize,
    residual: &[f32],
) -> Result<Buffer> {
    Ok(product(x, weight, inputs, outputs, &mut [], |Segment { row, cols, out, .. }| {
        prefetch(residual.as_ptr().wrapping_add((row + AHEAD) * outputs + cols.start), cols.len());
        vectorized(|| {
            reduce::add(out, &residual[row * outputs..][cols.clone()]);
            if let Some(bias) = bias {
                reduce::add(out, &bias[cols]);
            }
        });
    }))
}

/// [`forward`] and the GELU of it.
pub fn forward_gelu(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
    outputs: usize,
) -> Result<[Buffer; 2]> {
    let mut activations = Buffer::unspecified(x.len() / inputs * outputs);
    let y = product(x, weight, inputs, outputs, &mut activations, |Segment { cols, out, second, .. }| {
        gelu::forward_row(second, out, bias.map(|bias| &bias[cols]));
    });
    Ok([y, activations])
}

fn product(
    x: &[f32],
    weight: &[f32],
    inputs: usize,
    outputs: usize,
    second: &mut [f32],
    finish: impl Fn(Segment<'_>) + Sync,
) -> Buffer {
    let rows = x.len() / inputs;
    assert_eq!((x.len(), weight.len()), (rows * inputs, inputs * outputs));
    let mut y = Buffer::unspecified(rows * outputs);
    let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs));
    gemm_then(&mut y, second, x, weight.t(), finish);
    y
}

/// The gradient of the rows, `[R, I]`, from that of the output, `[R, O]`.
pub fn backward_input(grad: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Result<Buffer> {
    Ok(backward_input_then(grad, weight, inputs, outputs, &mut [], |_| {}))
}

/// [`backward_input`] of a layer behind a GELU, and through that: what went into the GELU, `hidden`, becomes its output again.
pub fn backward_input_gelu(
    grad: &[f32],
    weight: &[f32],
    inputs: usize,
    outputs: usize,
    hidden: &mut [f32],
) -> Result<Buffer> {
    Ok(backward_input_then(grad, weight, inputs, outputs, hidden, |Segment { out, second, .. }| {
        gelu::backward_row(out, second);
    }))
}

fn backward_input_then(
    grad: &[f32],
    weight: &[f32],
    inputs: usize,
    outputs: usize,
    second: &mut [f32],
    finish: impl Fn(Segment<'_>) + Sync,
) -> Buffer {
    let rows = grad.len() / outputs;
    assert_eq!((grad.len(), weight.len()), (rows * outputs, inputs * outputs));
    let mut grad_x = Buffer::unspecified(rows * inputs);
    let (grad, weight) = (Matrix::new(grad, rows, outputs), Matrix::new(weight, outputs, inputs));
    gemm_then(&mut grad_x, second, grad, weight, finish);
    grad_x
}

/// Writes or adds the gradient of the weight to `sum`, `[O, I]`.
pub fn backward_weight(
    grad: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
    sum: &mut [f32],
    mode: Output,
) -> Result<()> {
    let rows = x.len() / inputs;
    assert_eq!((grad.len(), x.len()), (rows * outputs, rows * inputs));
    let (grad, x) = (Matrix::new(grad, rows, outputs), Matrix::new(x, rows, inputs));
    gemm(sum, mode, 1.0, grad.t(), x, Threads::All);
    Ok(())
}

/// [`backward_weight`], and the same for the gradient of the bias, `[O]`.
pub fn backward_params(
    grad: &[f32],
    x: &[f32],
    inputs: usize,
    outputs: usize,
    (sum, mode): (&mut [f32], Output),
    (bias_sum, bias_mode): (&mut [f32], Output),
) -> Result<()> {
    backward_weight(grad, x, inputs, outputs, sum, mode)?;
    sum_rows(grad, bias_sum, bias_mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradient, noise, on_threads, wide};

    const ROWS: usize = 6;
    const INPUTS: usize = 5;
    const OUTPUTS: usize = 4;

    fn reference(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            let dot = |w: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            weight.chunks(INPUTS).zip(bias).map(|(w, bias)| dot(w) + bias).collect()
        };
        x.chunks(INPUTS).flat_map(row).collect()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (x, weight) = (noise(1, ROWS * INPUTS), noise(2, OUTPUTS * INPUTS));
        let (bias, grad) = (noise(3, OUTPUTS), noise(4, ROWS * OUTPUTS));
        let (x64, weight64, bias64) = (wide(&x), wide(&weight), wide(&bias));
        let loss = |y: Vec<f64>| y.iter().zip(&grad).map(|(y, &grad)| y * f64::from(grad)).sum();

        let y = forward(&x, &weight, Some(&bias), INPUTS, OUTPUTS).unwrap();
        assert_close(&y, &reference(&x64, &weight64, &bias64), 1e-6);

        let onto = forward_residual(&x, &weight, Some(&bias), INPUTS, OUTPUTS, &vec![1.0; y.len()]).unwrap();
        let expected: Vec<f64> = y.iter().map(|&y| 1.0 + f64::from(y)).collect();
        assert_close(&onto, &expected, 1e-6);

        let grad_x = backward_input(&grad, &weight, INPUTS, OUTPUTS).unwrap();
        check_gradient(&x, &grad_x, |x| loss(reference(x, &weight64, &bias64)));
        let (mut grad_weight, mut grad_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; OUTPUTS]);
        let (of_weight, of_bias) = ((&mut *grad_weight, Output::Replace), (&mut *grad_bias, Output::Replace));
        backward_params(&grad, &x, INPUTS, OUTPUTS, of_weight, of_bias).unwrap();
        check_gradient(&weight, &grad_weight, |weight| loss(reference(&x64, weight, &bias64)));
        check_gradient(&bias, &grad_bias, |bias| loss(reference(&x64, &weight64, bias)));
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let (rows, inputs, outputs) = (700, 96, 130);
        let (x, weight) = (noise(1, rows * inputs), noise(2, outputs * inputs));
        let (bias, grad) = (noise(3, outputs), noise(4, rows * outputs));
        let all = |threads| {
            on_threads(threads, || {
                let (mut grad_weight, mut grad_bias) = (vec![0.5; weight.len()], vec![0.5; outputs]);
                let (of_weight, of_bias) = ((&mut *grad_weight, Output::Add), (&mut *grad_bias, Output::Add));
                backward_params(&grad, &x, inputs, outputs, of_weight, of_bias).unwrap();
                let y = forward(&x, &weight, Some(&bias), inputs, outputs).unwrap();
                (y, backward_input(&grad, &weight, inputs, outputs).unwrap(), grad_weight, grad_bias)
            })
        };
        assert_eq!(all(1), all(3));
    }

    #[test]
    fn a_fused_activation_is_that_of_the_layer() {
        // Several tiles, the last of them narrow.
        let (rows, inputs, outputs) = (1100, 12, 130);
        let (x, weight) = (noise(1, rows * inputs), noise(2, outputs * inputs));
        let bias = noise(3, outputs);
        let plain = forward(&x, &weight, Some(&bias), inputs, outputs).unwrap();
        let [hidden, activations] = forward_gelu(&x, &weight, Some(&bias), inputs, outputs).unwrap();
        assert_eq!(hidden, plain);
        assert_eq!(activations, gelu::forward(&plain).unwrap());

        let grad = noise(4, rows * inputs);
        let mut expected = backward_input(&grad, &weight, outputs, inputs).unwrap();
        gelu::backward_and_recompute(&mut expected, &mut Buffer::copy(&hidden)).unwrap();
        let mut again = hidden;
        assert_eq!(backward_input_gelu(&grad, &weight, outputs, inputs, &mut again).unwrap(), expected);
        assert_eq!(again, activations);
    }
}
