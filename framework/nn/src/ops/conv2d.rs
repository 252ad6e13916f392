//! Convolution of maps.

use crate::kernels::conv2d::Conv2d;
pub use crate::kernels::conv2d::Window;
use crate::tensor::{Error, Result, Tensor};
use crate::{Param, Tape};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Convolves maps `[B, H, W, C]` to `[B, H', W', O]`. `weight` is `[O, C, k, k]`, `bias` `[O]`. The gradients of the parameters are
/// recorded on `tape`, also where `x` is a constant.
///
/// # Errors
/// If the shapes do not fit, or the kernel does not fit into the map.
pub fn conv2d(
    x: Tensor,
    weight: &Param,
    bias: Option<&Param>,
    window: Window,
    tape: &Tape,
) -> Result<Tensor> {
    let conv = size(x.dims4()?, weight, window)?;
    super::check_bias(bias, conv.out_channels)?;
    for param in std::iter::once(weight).chain(bias) {
        super::check_allocated(param)?;
    }
    implementation::conv2d(x, weight, bias, conv, tape)
}

fn size(x: (usize, usize, usize, usize), weight: &Param, window: Window) -> Result<Conv2d> {
    let (batch, height, width, in_channels) = x;
    let (out_channels, kernel) = match *weight.shape() {
        [outputs, inputs, height, width]
            if inputs == in_channels && height == width && outputs * inputs * height > 0 =>
        {
            (outputs, height)
        }
        _ => {
            return Err(Error::Shape(format!(
                "{}: a convolution of {in_channels} channels has a weight [O, {in_channels}, k, k], not {:?}",
                weight.name(),
                weight.shape()
            )));
        }
    };
    if window.stride == 0 || window.dilation == 0 {
        return Err(Error::Value("the stride and dilation of a convolution are at least 1".into()));
    }
    let [Some(out_height), Some(out_width)] = [height, width].map(|side| window.output(side, kernel)) else {
        return Err(Error::Shape(format!(
            "{}: a {kernel} x {kernel} kernel with {window:?} does not fit into a map of {height} x {width}",
            weight.name()
        )));
    };
    let (input, output) = ([height, width], [out_height, out_width]);
    Ok(Conv2d { batch, input, output, in_channels, out_channels, kernel, window })
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use crate::kernels::Buffer;
    use crate::kernels::chunks::sum_rows;
    use crate::kernels::conv2d::Conv2d;
    use crate::ops::operation_on;
    use crate::tensor::{Result, Tensor};
    use crate::{Param, Tape};

    pub fn conv2d(
        x: Tensor,
        weight: &Param,
        bias: Option<&Param>,
        conv: Conv2d,
        tape: &Tape,
    ) -> Result<Tensor> {
        let shape = (conv.batch, conv.output[0], conv.output[1], conv.out_channels);
        let (weight, bias) = (weight.clone(), bias.cloned());
        let wants_input = x.tape().is_recording();
        operation_on(tape, vec![x], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let output = {
                let bias = bias.as_ref().map(Param::values);
                conv.forward(&x, &weight.values(), bias.as_deref())
            };
            // A frozen weight needs no input kept.
            let kept = weight.requires_grad().then_some(x);
            let backward = move |grad: Buffer| {
                weight.accumulate_grad(|sum, mode| {
                    let x = kept.as_deref().unwrap_or_default();
                    mode.write(sum, &conv.grad_weight(x, &grad));
                });
                if let Some(bias) = &bias {
                    bias.accumulate_grad(|sum, mode| sum_rows(&grad, sum, mode));
                }
                wants_input.then(|| conv.grad_input(&grad, &weight.values()).into()).into_iter().collect()
            };
            Ok((output.into(), record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes3, Axis};
    use dfdx::tensor::Merge as _;
    use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

    use crate::kernels::conv2d::Conv2d;
    use crate::ops::rows::{T2, T3, dense, gather_taps};
    use crate::tensor::{Result, Tensor};
    use crate::{Param, Tape};

    /// Holds what all taps read: `k * k` times the input.
    pub fn conv2d(
        x: Tensor,
        weight: &Param,
        bias: Option<&Param>,
        conv: Conv2d,
        tape: &Tape,
    ) -> Result<Tensor> {
        let Conv2d { batch, input, output, in_channels, out_channels, kernel, .. } = conv;
        let tape = x.tape().merge(tape.clone());
        let taps = kernel * kernel;
        let positions = batch * output[0] * output[1];
        let x = x.typed((batch * input[0] * input[1], in_channels))?;
        let read = gather_taps(x, &conv.sources(), taps)?;
        let read: T2 = read.try_reshape_like(&(positions, taps * in_channels))?;
        let weight: T3 = weight.tensor(&tape)?.try_reshape_like(&(out_channels, in_channels, taps))?;
        let weight = dense(weight.try_permute::<_, Axes3<2, 1, 0>>()?)?;
        let weight: T2 = weight.try_reshape_like(&(taps * in_channels, out_channels))?;
        let mut y: T2 = read.try_matmul(weight)?;
        if let Some(bias) = bias {
            let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(positions, out_channels))?;
            y = y.try_add(bias)?;
        }
        Tensor::from_typed(y)?.reshape((batch, output[0], output[1], out_channels))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::Tensor;
    use crate::testing::{
        assert_close, check_gradient, loss_weights, noise, noise_param, on_threads, run, wide,
    };

    /// The convolution by its definition, in f64.
    fn direct(conv: &Conv2d, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let Conv2d { batch, input, output, in_channels, out_channels, kernel, window } = *conv;
        let mut y = Vec::new();
        for index in 0..batch * output[0] * output[1] * out_channels {
            let (position, out_channel) = (index / out_channels, index % out_channels);
            let (image, row, col) =
                (position / output[1] / output[0], position / output[1] % output[0], position % output[1]);
            let mut sum = bias[out_channel];
            for tap in 0..in_channels * kernel * kernel {
                let (channel, ky, kx) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
                let y = (row * window.stride + ky * window.dilation).wrapping_sub(window.padding);
                let x_col = (col * window.stride + kx * window.dilation).wrapping_sub(window.padding);
                if y < input[0] && x_col < input[1] {
                    let value = x[((image * input[0] + y) * input[1] + x_col) * in_channels + channel];
                    sum += value * weight[out_channel * in_channels * kernel * kernel + tap];
                }
            }
            y.push(sum);
        }
        y
    }

    #[test]
    fn gradients_match_finite_differences() {
        for window in [Window::same(3), Window { stride: 2, padding: 1, dilation: 2 }] {
            let (weight, bias) = (noise_param(1, &[2, 3, 3, 3]), noise_param(2, &[2]));
            let shape = (2, 5, 6, 3);
            let conv = size(shape, &weight, window).unwrap();
            let x = noise(3, 180);
            let outcome =
                run(&x, shape, &[&weight, &bias], |x| conv2d(x, &weight, Some(&bias), window, &Tape::none()));
            let (w, b) = (weight.values().to_vec(), bias.values().to_vec());
            let loss = |x: &[f64], w: &[f64], b: &[f64]| -> f64 {
                let y = direct(&conv, x, w, b);
                y.iter().zip(loss_weights(y.len())).map(|(y, weight)| y * f64::from(weight)).sum()
            };
            check_gradient(&x, &outcome.grads[0], |x| loss(x, &wide(&w), &wide(&b)));
            check_gradient(&w, &outcome.grads[1], |w| loss(&wide(&x), w, &wide(&b)));
            check_gradient(&b, &outcome.grads[2], |b| loss(&wide(&x), &wide(&w), b));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn equals_its_definition_and_the_composition(
            (batch, height, width) in (1usize..3, 1usize..8, 1usize..8),
            (inputs, outputs, kernel) in (1usize..6, 1usize..6, 1usize..5),
            (stride, padding, dilation) in (1usize..4, 0usize..4, 1usize..3),
        ) {
            let window = Window { stride, padding, dilation };
            let (weight, bias) = (noise_param(1, &[outputs, inputs, kernel, kernel]), noise_param(2, &[outputs]));
            let shape = (batch, height, width, inputs);
            let Ok(conv) = size(shape, &weight, window) else {
                prop_assert!(dilation * (kernel - 1) + 1 > height.min(width) + 2 * padding);
                return Ok(());
            };
            let x = noise(3, batch * height * width * inputs);
            let own = run(&x, shape, &[&weight, &bias], |x| conv2d(x, &weight, Some(&bias), window, &Tape::none()));
            assert_close(
                &own.values,
                &direct(&conv, &wide(&x), &wide(&weight.values()), &wide(&bias.values())),
                1e-5,
            );
            let other = run(&x, shape, &[&weight, &bias], |x| composed::conv2d(x, &weight, Some(&bias), conv, &Tape::none()));
            own.assert_close(&other, 2e-5);
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        // More positions than a block holds.
        let outcome = |threads| {
            on_threads(threads, || {
                let weight = noise_param(1, &[8, 16, 3, 3]);
                let x = noise(3, 2 * 70 * 71 * 16);
                run(&x, (2, 70, 71, 16), &[&weight], |x| {
                    conv2d(x, &weight, None, Window::same(3), &Tape::none())
                })
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::from_vec(noise(1, 50), (1, 5, 5, 2), &Tape::none()).unwrap();
        let conv =
            |shape: &[usize], window| conv2d(x.clone(), &noise_param(1, shape), None, window, &Tape::none());
        assert!(conv(&[3, 2, 3, 3], Window::default()).is_ok());
        assert!(conv(&[3, 2, 7, 7], Window::default()).is_err());
        assert!(conv(&[3, 2, 7, 7], Window { padding: 1, ..Window::default() }).is_ok());
        assert!(conv(&[3, 2, 3, 5], Window::default()).is_err());
        assert!(conv(&[3, 4, 3, 3], Window::default()).is_err());
        assert!(conv(&[3, 2], Window::default()).is_err());
        assert!(conv(&[3, 2, 3, 3], Window { stride: 0, ..Window::default() }).is_err());
    }
}
