//! Maxima over windows of maps.

use super::operation::operation;
use crate::backend::Buffer;
use crate::backend::conv2d::Window;
use crate::backend::max_pool::{self, MaxPool};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The largest values of `kernel x kernel` windows of maps `[B, H, W, C]`, as PyTorch's `max_pool2d`: `[B, H', W', C]`. The gradient goes
/// to the first of equal values.
///
/// # Errors
/// If a window does not fit into the map, or lies in its padding alone; or if the device fails.
pub fn max_pool2d(x: Tensor, kernel: usize, window: Window) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if kernel == 0 || window.stride == 0 || window.dilation == 0 || 2 * window.padding > kernel {
        return Err(Error::Value(format!(
            "max_pool2d: the kernel ({kernel}), stride and dilation are at least 1, the padding at most half the kernel: {window:?}"
        )));
    }
    let [Some(rows), Some(cols)] = [height, width].map(|side| window.output(side, kernel)) else {
        return Err(Error::Shape(format!(
            "max_pool2d: a window of {kernel} x {kernel} with {window:?} does not fit into a map of {height} x {width}"
        )));
    };
    if batch * channels == 0 {
        return Err(Error::Shape(format!("max_pool2d: there are no maps in {:?}", x.shape())));
    }
    let pool = MaxPool { input: [height, width], output: [rows, cols], channels, kernel, window };
    if !pool.covers() {
        return Err(Error::Shape(format!(
            "max_pool2d: a window of {kernel} x {kernel} with {window:?} has no position in a map of {height} x {width}"
        )));
    }
    operation(vec![x], (batch, rows, cols, channels), move |inputs, records| {
        let (y, argmax) = max_pool::forward(&pool, &inputs[0])?;
        let backward = move |grad: Buffer| Ok(vec![Some(max_pool::backward(&pool, &grad, &argmax)?)]);
        Ok((y, records.then(|| Box::new(backward) as _)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tape;
    use crate::testing::{assert_close, loss_weights, noise, run};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn equals_its_definition_and_sends_the_gradient_where_the_maximum_was(
            (batch, height, width, channels) in (1usize..3, 1usize..9, 1usize..9, 1usize..4),
            (kernel, stride, padding, dilation) in (1usize..4, 1usize..3, 0usize..2, 1usize..3),
        ) {
            let window = Window { stride, padding, dilation };
            // Others may lie beside the map.
            prop_assume!(2 * padding <= kernel && height.min(width) > padding * (dilation - 1));
            let [Some(rows), Some(cols)] = [height, width].map(|side| window.output(side, kernel)) else {
                return Ok(());
            };
            let x = noise(1, batch * height * width * channels);
            let own = run(&x, (batch, height, width, channels), &[], |x| max_pool2d(x, kernel, window));
            let weights = loss_weights(batch * rows * cols * channels);
            let (mut expected, mut grad) = (Vec::new(), vec![0.0; x.len()]);
            for (index, &weight) in weights.iter().enumerate() {
                let (channel, position) = (index % channels, index / channels);
                let (image, row, col) = (position / cols / rows, position / cols % rows, position % cols);
                let taps = (0..kernel * kernel).map(|tap| {
                    let top = (row * stride + tap / kernel * dilation).wrapping_sub(padding);
                    let left = (col * stride + tap % kernel * dilation).wrapping_sub(padding);
                    (top, left)
                });
                let inside = taps.filter(|&(top, left)| top < height && left < width);
                let at = inside.map(|(top, left)| ((image * height + top) * width + left) * channels + channel);
                let largest = at.reduce(|best, at| if x[at] > x[best] { at } else { best }).unwrap();
                expected.push(f64::from(x[largest]));
                grad[largest] += f64::from(weight);
            }
            assert_close(&own.values, &expected, 0.0);
            assert_close(&own.grads[0], &grad, 1e-6);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x =
            |height: usize| Tensor::from_vec(noise(1, height * 8), (1, height, 4, 2), &Tape::none()).unwrap();
        assert!(max_pool2d(x(4), 2, Window::default()).is_ok());
        assert!(matches!(max_pool2d(x(1), 2, Window::default()), Err(Error::Shape(_))));
        assert!(matches!(max_pool2d(x(0), 1, Window::default()), Err(Error::Shape(_))));
        let beside = Window { padding: 1, dilation: 2, ..Window::default() };
        assert!(matches!(max_pool2d(x(1), 2, beside), Err(Error::Shape(_))));
        for window in [Window { stride: 0, ..Window::default() }, Window { padding: 2, ..Window::default() }]
        {
            assert!(matches!(max_pool2d(x(4), 3, window), Err(Error::Value(_))));
        }
    }
}
