//! Maxima over windows of maps `[B, H, W, C]`.

use cudarc::driver::CudaSlice;

use super::buffer::{scratch, unspecified};
use super::module::{Grid, Source, arguments, source};
use super::{Buffer, Values};
use crate::Result;

pub use crate::cpu::max_pool::MaxPool;

static KERNELS: Source = source!("max_pool");

/// Where in its map each maximum was found: the position, for every output.
#[derive(Debug)]
pub struct Argmax(CudaSlice<u32>);

/// `[B, H', W', C]` from `[B, H, W, C]`, and where the maxima were: the first of equal ones, as in PyTorch.
pub fn forward(pool: &MaxPool, x: &Values) -> Result<(Buffer, Argmax)> {
    let MaxPool { input: [height, width], output: [rows, cols], channels, .. } = *pool;
    let map = height * width * channels;
    assert!(x.len().is_multiple_of(map));
    let y = unspecified(x.len() / map * rows * cols * channels)?;
    let argmax = scratch(y.len())?;
    launch("max_pool", pool, &y, x, &argmax)?;
    Ok((y, Argmax(argmax)))
}

/// The gradient of the input, `[B, H, W, C]`, from that of the output: every position looks for the windows that chose it, so that
/// sums have one order.
pub fn backward(pool: &MaxPool, grad: &Values, argmax: &Argmax) -> Result<Buffer> {
    let MaxPool { input: [height, width], output: [rows, cols], channels, .. } = *pool;
    let outputs = rows * cols * channels;
    assert!(grad.len().is_multiple_of(outputs));
    let grad_x = unspecified(grad.len() / outputs * height * width * channels)?;
    launch("max_pool_grad", pool, &grad_x, grad, &argmax.0)?;
    Ok(grad_x)
}

/// A kernel that computes each value of `written`.
fn launch(
    name: &'static str,
    pool: &MaxPool,
    written: &Buffer,
    values: &Values,
    argmax: &CudaSlice<u32>,
) -> Result<()> {
    let MaxPool { input: [height, width], output: [rows, cols], channels, kernel, window } = *pool;
    let (stride, padding, dilation) = (window.stride, window.padding, window.dilation);
    let arguments = arguments![
        *written,
        *values,
        *argmax,
        height,
        width,
        rows,
        cols,
        channels,
        kernel,
        stride,
        padding,
        dilation,
        written.len()
    ];
    KERNELS.launch(name, Grid::elements(written.len()), arguments)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, on_card};
    use super::*;
    use crate::cpu::conv2d::Window;
    use crate::cpu::max_pool as cpu;
    use crate::testing::noise;

    #[test]
    fn maxima_and_gradients_are_those_of_the_cpu() {
        for (batch, input, channels, kernel, window) in [
            (1, [1, 1], 1, 1, Window::default()),
            (2, [5, 7], 3, 2, Window { stride: 2, ..Window::default() }),
            (3, [9, 6], 33, 3, Window { stride: 2, padding: 1, dilation: 1 }),
            (1, [8, 8], 2, 3, Window { stride: 1, padding: 1, dilation: 2 }),
        ] {
            let [Some(rows), Some(cols)] = input.map(|side| window.output(side, kernel)) else { panic!() };
            let pool = MaxPool { input, output: [rows, cols], channels, kernel, window };
            let x = noise(1, batch * input[0] * input[1] * channels);
            let grad = noise(2, batch * rows * cols * channels);
            let (y, argmax) = forward(&pool, &on_card(&x)).unwrap();
            let (expected, of_cpu) = cpu::forward(&pool, &x).unwrap();
            Case::exact("copies").same(&y, &expected);
            let grad_x = backward(&pool, &on_card(&grad), &argmax).unwrap();
            Case::exact("sums in the same order")
                .same(&grad_x, &cpu::backward(&pool, &grad, &of_cpu).unwrap());
        }
    }
}
