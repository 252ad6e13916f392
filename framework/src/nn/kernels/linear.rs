//! `y = x W^T + b` on rows.

use rayon::prelude::*;

use super::chunks::sum_rows;
use super::gemm::{Matrix, Output, Threads, gemm};

/// Rows `[R, I]` and the weight `[O, I]` to `[R, O]`.
pub fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len() / inputs;
    assert_eq!((x.len(), weight.len()), (rows * inputs, inputs * outputs));
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
    assert_eq!((grad.len(), weight.len()), (rows * outputs, inputs * outputs));
    let mut grad_x = vec![0.0; rows * inputs];
    let (grad, weight) = (Matrix::new(grad, rows, outputs), Matrix::new(weight, outputs, inputs));
    gemm(&mut grad_x, Output::Replace, 1.0, grad, weight, Threads::All);
    grad_x
}

/// Adds the gradient of the weight to `sum`, `[O, I]`.
pub fn backward_weight(grad: &[f32], x: &[f32], inputs: usize, outputs: usize, sum: &mut [f32]) {
    let rows = x.len() / inputs;
    assert_eq!((grad.len(), x.len()), (rows * outputs, rows * inputs));
    let (grad, x) = (Matrix::new(grad, rows, outputs), Matrix::new(x, rows, inputs));
    gemm(sum, Output::Add, 1.0, grad.t(), x, Threads::All);
}

/// Adds the gradient of the bias to `sum`, `[O]`.
pub fn backward_bias(grad: &[f32], sum: &mut [f32]) {
    sum_rows(grad, sum);
}

#[cfg(test)]
mod tests {
    use super::*;
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

        let grad_x = backward_input(&grad, &weight, INPUTS, OUTPUTS);
        check_gradient(&x, &grad_x, |x| loss(reference(x, &weight64, &bias64)));
        let mut grad_weight = vec![0.0; weight.len()];
        backward_weight(&grad, &x, INPUTS, OUTPUTS, &mut grad_weight);
        check_gradient(&weight, &grad_weight, |weight| loss(reference(&x64, weight, &bias64)));
        let mut grad_bias = vec![0.0; OUTPUTS];
        backward_bias(&grad, &mut grad_bias);
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
                backward_weight(&grad, &x, inputs, outputs, &mut grad_weight);
                backward_bias(&grad, &mut grad_bias);
                let y = forward(&x, &weight, Some(&bias), inputs, outputs);
                (y, backward_input(&grad, &weight, inputs, outputs), grad_weight, grad_bias)
            })
        };
        assert_eq!(all(1), all(3));
    }
}
