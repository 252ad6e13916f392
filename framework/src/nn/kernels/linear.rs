//! `y = x W^T + b` on rows.

use rayon::prelude::*;

use super::elementwise::CHUNK;
use super::gemm::{Matrix, Threads, gemm};
use super::simd::vectorized;
use super::{Buffer, Output, reduce};
use crate::nn::profile;

/// Rows `[R, I]` and the weight `[O, I]` to `[R, O]`.
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Buffer {
    let rows = x.len() / inputs;
    let mut y = Buffer::unspecified(rows * outputs);
    let mode = match bias {
        // The product is added to the bias: no pass of its own over the output.
        Some(bias) => {
            let _span = profile::kernel("bias");
            each_row(&mut y, outputs, |row| row.copy_from_slice(bias));
            Output::Add
        }
        None => Output::Replace,
    };
    product(x, weight, inputs, outputs, &mut y, mode);
    y
}

/// Adds what [`forward`] yields to `y`, `[R, O]`.
pub fn forward_onto(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
    outputs: usize,
    y: &mut [f32],
) {
    if let Some(bias) = bias {
        let _span = profile::kernel("bias");
        each_row(y, outputs, |row| reduce::add(row, bias));
    }
    product(x, weight, inputs, outputs, y, Output::Add);
}

fn product(x: &[f32], weight: &[f32], inputs: usize, outputs: usize, y: &mut [f32], mode: Output) {
    let rows = x.len() / inputs;
    assert_eq!((x.len(), weight.len()), (rows * inputs, inputs * outputs));
    let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs));
    gemm(y, mode, 1.0, x, weight.t(), Threads::All);
}

/// Calls `change` on every row, many rows on one thread.
fn each_row(values: &mut [f32], width: usize, change: impl Fn(&mut [f32]) + Sync) {
    let rows = (CHUNK / width).max(1);
    values.par_chunks_mut(rows * width).for_each(|chunk| {
        vectorized(|| chunk.chunks_exact_mut(width).for_each(&change));
    });
}

/// The gradient of the rows, `[R, I]`, from that of the output, `[R, O]`.
pub fn backward_input(grad: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Buffer {
    let rows = grad.len() / outputs;
    assert_eq!((grad.len(), weight.len()), (rows * outputs, inputs * outputs));
    let mut grad_x = Buffer::unspecified(rows * inputs);
    let (grad, weight) = (Matrix::new(grad, rows, outputs), Matrix::new(weight, outputs, inputs));
    gemm(&mut grad_x, Output::Replace, 1.0, grad, weight, Threads::All);
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
) {
    let rows = x.len() / inputs;
    assert_eq!((grad.len(), x.len()), (rows * outputs, rows * inputs));
    let (grad, x) = (Matrix::new(grad, rows, outputs), Matrix::new(x, rows, inputs));
    gemm(sum, mode, 1.0, grad.t(), x, Threads::All);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernels::chunks::sum_rows;
    use crate::nn::testing::{assert_close, check_gradient, noise, on_threads, wide};

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

        let y = forward(&x, &weight, Some(&bias), INPUTS, OUTPUTS);
        assert_close(&y, &reference(&x64, &weight64, &bias64), 1e-6);

        let mut onto = vec![1.0; y.len()];
        forward_onto(&x, &weight, Some(&bias), INPUTS, OUTPUTS, &mut onto);
        let expected: Vec<f64> = y.iter().map(|&y| 1.0 + f64::from(y)).collect();
        assert_close(&onto, &expected, 1e-6);

        let grad_x = backward_input(&grad, &weight, INPUTS, OUTPUTS);
        check_gradient(&x, &grad_x, |x| loss(reference(x, &weight64, &bias64)));
        let mut grad_weight = vec![f32::NAN; weight.len()];
        backward_weight(&grad, &x, INPUTS, OUTPUTS, &mut grad_weight, Output::Replace);
        check_gradient(&weight, &grad_weight, |weight| loss(reference(&x64, weight, &bias64)));
        let mut grad_bias = vec![f32::NAN; OUTPUTS];
        sum_rows(&grad, &mut grad_bias, Output::Replace);
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
                backward_weight(&grad, &x, inputs, outputs, &mut grad_weight, Output::Add);
                sum_rows(&grad, &mut grad_bias, Output::Add);
                let y = forward(&x, &weight, Some(&bias), inputs, outputs);
                (y, backward_input(&grad, &weight, inputs, outputs), grad_weight, grad_bias)
            })
        };
        assert_eq!(all(1), all(3));
    }
}
