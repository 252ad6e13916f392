//! `y = x W^T + b` on rows.

use rayon::prelude::*;

use super::gemm::{Matrix, Output, Threads, gemm};
use super::reduce;

/// Rows `[R, I]` and the weight `[O, I]` to `[R, O]`.
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut y = vec![0.0; rows * outputs];
    let mode = match bias {
        // The product is added to the bias: no pass of its own over the output.
        Some(bias) => {
            y.par_chunks_mut(outputs).with_min_len(64).for_each(|row| row.copy_from_slice(bias));
            Output::Add
        }
        None => Output::Replace,
    };
    let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs));
    gemm(&mut y, mode, 1.0, x, weight.t(), Threads::All);
    y
}

/// The gradient of the rows, `[R, I]`, from that of the output, `[R, O]`.
pub fn backward_input(grad: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = grad.len() / outputs;
    let mut grad_x = vec![0.0; rows * inputs];
    let (grad, weight) = (Matrix::new(grad, rows, outputs), Matrix::new(weight, outputs, inputs));
    gemm(&mut grad_x, Output::Replace, 1.0, grad, weight, Threads::All);
    grad_x
}

/// Adds the gradient of the weight to `sum`, `[O, I]`.
pub fn backward_weight(grad: &[f32], x: &[f32], inputs: usize, outputs: usize, sum: &mut [f32]) {
    let rows = x.len() / inputs;
    let (grad, x) = (Matrix::new(grad, rows, outputs), Matrix::new(x, rows, inputs));
    gemm(sum, Output::Add, 1.0, grad.t(), x, Threads::All);
}

/// Adds the gradient of the bias to `sum`, `[O]`.
pub fn backward_bias(grad: &[f32], sum: &mut [f32]) {
    reduce::sum_rows(grad, sum);
}
