//! A convolution of maps.

use crate::backend::Buffer;
use crate::backend::chunks::sum_rows;
use crate::backend::conv2d::{self, Conv2d as Size, Window};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, Scope, Shape};

/// A `k x k` convolution of maps with their channels last.
///
/// ```
/// use convmae_nn::layers::{Conv2d, Window};
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Init, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let init = Init::Values(vec![1.0, 10.0, 100.0, 1000.0]);
/// let conv = Conv2d::with_init(&scope.child("conv"), 1, 1, 2, Window::default(), &init, None);
/// let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 2, 3, 1), &ctx.tape)?;
/// assert_eq!(conv.forward(x, &ctx)?.to_vec()?, [5421.0, 6532.0]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[O, I, k, k]`.
    pub weight: Param,
    /// `[O]`.
    pub bias: Option<Param>,
    /// Stride, padding and dilation.
    pub window: Window,
}

impl Conv2d {
    /// With PyTorch's default initialisation.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, window: Window) -> Self {
        let init = Init::kaiming_uniform(inputs * kernel * kernel);
        Self::with_init(scope, inputs, outputs, kernel, window, &init, Some(&init))
    }

    /// With given initialisers; no bias if it has none.
    pub fn with_init(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        window: Window,
        weight: &Init,
        bias: Option<&Init>,
    ) -> Self {
        Self {
            weight: scope.param("weight", &[outputs, inputs, kernel, kernel], weight),
            bias: bias.map(|init| scope.param("bias", &[outputs], init)),
            window,
        }
    }

    /// `[B, H, W, I]` to `[B, H', W', O]`.
    ///
    /// # Errors
    /// If the channels do not fit, or the kernel does not fit into the map; or if the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        apply(self.clone(), x, ctx)
    }

    /// Multiply-accumulates for that many output positions.
    pub fn macs(&self, positions: usize) -> u64 {
        positions as u64 * self.weight.numel() as u64
    }

    /// Of maps of that shape.
    fn size(&self, input: Shape) -> Result<Size> {
        let Self { weight, window, .. } = self;
        let (batch, height, width, in_channels) = input.dims4()?;
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
        let [Some(out_height), Some(out_width)] = [height, width].map(|side| window.output(side, kernel))
        else {
            return Err(Error::Shape(format!(
                "{}: a {kernel} x {kernel} kernel with {window:?} does not fit into a map of {height} x {width}",
                weight.name()
            )));
        };
        let (input, output) = ([height, width], [out_height, out_width]);
        Ok(Size { batch, input, output, in_channels, out_channels, kernel, window: *window })
    }
}

impl Layer for Conv2d {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let Size { batch, output, out_channels, .. } = self.size(input)?;
        self.weight.check_allocated()?;
        self.bias.iter().try_for_each(|bias| bias.check_channels(out_channels))?;
        Ok(Shape::from((batch, output[0], output[1], out_channels)))
    }

    fn may_train(&self) -> bool {
        self.weight.requires_grad() || self.bias.as_ref().is_some_and(Param::requires_grad)
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let size = self.size(shape)?;
        let y = {
            let bias = self.bias.as_ref().map(Param::values);
            conv2d::forward(&size, &x, &self.weight.values(), bias.as_deref())?
        };
        // A frozen weight needs no input kept.
        let saved = self.weight.requires_grad().then_some(x);
        let backward = move |grad: Buffer| {
            if let Some(x) = saved {
                self.weight.add_grad(conv2d::grad_weight(&size, &x, &grad)?)?;
            }
            if let Some(bias) = &self.bias {
                bias.accumulate_grad(|sum, mode| sum_rows(&grad, sum, mode))?;
            }
            pass.wants_input.then(|| conv2d::grad_input(&size, &grad, &self.weight.values())).transpose()
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backward::backward;
    use crate::random::{Purpose, stream};
    use crate::testing::{
        assert_close, check_gradient, context, loss, loss_weights, noise, noise_param, on_threads, run,
        take_grad, wide,
    };
    use crate::{Tape, oracle};

    fn conv(outputs: usize, inputs: usize, kernel: usize, window: Window) -> Conv2d {
        let weight = noise_param(1, &[outputs, inputs, kernel, kernel]);
        Conv2d { weight, bias: Some(noise_param(2, &[outputs])), window }
    }

    fn params(conv: &Conv2d) -> Vec<&Param> {
        std::iter::once(&conv.weight).chain(&conv.bias).collect()
    }

    /// The convolution by its definition, in f64.
    fn direct(size: &Size, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let Size { batch, input, output, in_channels, out_channels, kernel, window } = *size;
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
            let conv = conv(2, 3, 3, window);
            let shape = (2, 5, 6, 3);
            let size = conv.size(Shape::from(shape)).unwrap();
            let x = noise(3, 180);
            let outcome = run(&x, shape, &params(&conv), |x| conv.forward(x, &context(false)));
            let [w, b] = [0, 1].map(|at| params(&conv)[at].to_vec().unwrap());
            let loss = |x: &[f64], w: &[f64], b: &[f64]| -> f64 {
                let y = direct(&size, x, w, b);
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
            let conv = conv(outputs, inputs, kernel, window);
            let shape = (batch, height, width, inputs);
            let Ok(size) = conv.size(Shape::from(shape)) else {
                prop_assert!(dilation * (kernel - 1) + 1 > height.min(width) + 2 * padding);
                return Ok(());
            };
            let x = noise(3, batch * height * width * inputs);
            let own = run(&x, shape, &params(&conv), |x| conv.forward(x, &context(false)));
            let [weight, bias] = [0, 1].map(|at| wide(&params(&conv)[at].to_vec().unwrap()));
            assert_close(&own.values, &direct(&size, &wide(&x), &weight, &bias), 1e-5);
            let other = run(&x, shape, &params(&conv), |x| oracle::conv2d(x, &conv, size));
            own.assert_close(&other, 2e-5);
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        // More positions than a block holds.
        let outcome = |threads| {
            on_threads(threads, || {
                let conv = conv(8, 16, 3, Window::same(3));
                let x = noise(3, 2 * 70 * 71 * 16);
                run(&x, (2, 70, 71, 16), &params(&conv), |x| conv.forward(x, &context(false)))
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Tensor::from_vec(noise(1, 50), (1, 5, 5, 2), &Tape::none()).unwrap();
        let conv = |shape: &[usize], window| {
            let conv = Conv2d { weight: noise_param(1, shape), bias: None, window };
            conv.forward(x.clone(), &context(false))
        };
        assert!(conv(&[3, 2, 3, 3], Window::default()).is_ok());
        assert!(conv(&[3, 2, 7, 7], Window::default()).is_err());
        assert!(conv(&[3, 2, 7, 7], Window { padding: 1, ..Window::default() }).is_ok());
        assert!(conv(&[3, 2, 3, 5], Window::default()).is_err());
        assert!(conv(&[3, 4, 3, 3], Window::default()).is_err());
        assert!(conv(&[3, 2], Window::default()).is_err());
        assert!(conv(&[3, 2, 3, 3], Window { stride: 0, ..Window::default() }).is_err());
    }

    #[test]
    fn as_a_first_layer_it_learns_from_constants() {
        let (scope, ctx) = (Scope::new(0), Context::train(stream(Purpose::Step, &[0])));
        let x = Tensor::from_vec(noise(1, 2 * 4 * 4 * 3), (2, 4, 4, 3), &Tape::none()).unwrap();
        let conv = Conv2d::new(&scope, 3, 5, 3, Window::same(3));
        backward(loss(conv.forward(x, &ctx).unwrap())).unwrap();
        assert!(scope.params().iter().all(|param| take_grad(param)[0] != 0.0));
    }
}
