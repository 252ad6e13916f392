//! A transposed convolution of maps with kernel = stride.

use crate::backend::tokens::{InverseIndex, add_rows, gather_rows};
use crate::backend::{Buffer, chunks, linear, patches};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, Scope, Shape};

/// A `k x k` transposed convolution with stride `k`, PyTorch's `ConvTranspose2d(.., kernel_size=k, stride=k)`: every position becomes
/// `k x k` positions of its own.
///
/// ```
/// use convmae_nn::layers::ConvTranspose2d;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let deconv = ConvTranspose2d::new(&scope.child("deconv"), 1, 1, 2);
/// deconv.weight.set(&[1.0, 2.0, 3.0, 4.0])?;
/// deconv.bias.set(&[0.5])?;
/// let x = Tensor::from_vec(vec![1.0, 10.0], (1, 1, 2, 1), &ctx.tape)?;
/// let y = deconv.forward(x, &ctx)?;
/// assert_eq!((y.dims(), y.to_vec()?), (&[1, 2, 4, 1][..], vec![1.5, 2.5, 10.5, 20.5, 3.5, 4.5, 30.5, 40.5]));
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// `[I, O, k, k]`.
    pub weight: Param,
    /// `[O]`.
    pub bias: Param,
}

impl ConvTranspose2d {
    /// With PyTorch's default initialisation, which takes the outputs for the fan in.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        let init = Init::kaiming_uniform(outputs * kernel * kernel);
        Self::with_init(scope, inputs, outputs, kernel, &init, &init)
    }

    /// With given initialisers of weight and bias.
    pub fn with_init(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        weight: &Init,
        bias: &Init,
    ) -> Self {
        Self {
            weight: scope.param("weight", &[inputs, outputs, kernel, kernel], weight),
            bias: scope.param("bias", &[outputs], bias),
        }
    }

    /// `[B, H, W, I]` to `[B, H * k, W * k, O]`.
    ///
    /// # Errors
    /// If the channels do not fit, or the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        apply(self.clone(), x, ctx)
    }

    /// Multiply-accumulates for that many input positions.
    pub fn macs(&self, positions: usize) -> u64 {
        positions as u64 * self.weight.numel() as u64
    }

    /// Outputs and side of the kernel.
    fn size(&self, inputs: usize) -> Result<(usize, usize)> {
        match *self.weight.shape() {
            [own, outputs, height, width] if own == inputs && height == width && outputs * height > 0 => {
                Ok((outputs, height))
            }
            _ => Err(Error::Shape(format!(
                "{}: a transposed convolution of {inputs} channels has a weight [{inputs}, O, k, k], not {:?}",
                self.weight.name(),
                self.weight.shape()
            ))),
        }
    }
}

/// For every position of a map of `height * kernel` rows and `width * kernel` columns, where it is when those of each input position
/// lie one behind the other; for a batch.
fn by_input(batch: usize, height: usize, width: usize, kernel: usize) -> Vec<u32> {
    let cols = width * kernel;
    let place = |at: usize| {
        // The rows of the next image are further down.
        let (row, col) = (at / cols, at % cols);
        let input = row / kernel * width + col / kernel;
        (input * kernel * kernel + row % kernel * kernel + col % kernel) as u32
    };
    (0..batch * height * kernel * cols).map(place).collect()
}

impl Layer for ConvTranspose2d {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, height, width, inputs) = input.dims4()?;
        let (outputs, kernel) = self.size(inputs)?;
        self.weight.check_allocated()?;
        self.bias.check_channels(outputs)?;
        Ok(Shape::from((batch, height * kernel, width * kernel, outputs)))
    }

    fn may_train(&self) -> bool {
        self.weight.requires_grad() || self.bias.requires_grad()
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let (batch, height, width, inputs) = shape.dims4()?;
        let (outputs, kernel) = self.size(inputs)?;
        let columns = outputs * kernel * kernel;
        // The transpose of a convolution: its backward with respect to the input is the forward here.
        let weight = self.weight.operand()?;
        let rows = linear::backward_input(&x, &weight, columns, inputs)?;
        drop(weight);
        let cells = patches::split_cells(&rows, outputs, kernel, kernel)?;
        let index = by_input(batch, height, width, kernel);
        let mut y = gather_rows(&cells, None, outputs, &index)?;
        drop((rows, cells));
        add_rows(&mut y, &self.bias.values(), outputs, &vec![0; index.len()])?;
        // A frozen weight needs no input kept.
        let saved = self.weight.requires_grad().then_some(x);
        let backward = move |grad: Buffer| {
            self.bias.accumulate_grad(|sum, mode| chunks::sum_rows(&grad, sum, mode))?;
            let cells = gather_rows(&grad, None, outputs, InverseIndex::new(&index, index.len()).all())?;
            let rows = patches::merge_cells(&cells, outputs, kernel, kernel)?;
            drop((grad, cells));
            if let Some(x) = saved {
                self.weight.accumulate_grad(|sum, mode| {
                    linear::backward_weight(&x, &rows, columns, inputs, sum, mode)
                })?;
            }
            if !pass.wants_input {
                return Ok(None);
            }
            let weight = self.weight.operand()?;
            linear::forward(&rows, &weight, None, columns, inputs).map(Some)
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tape;
    use crate::testing::{
        assert_close, check_gradient, context, loss_weights, noise, noise_param, run, wide,
    };

    fn deconv(inputs: usize, outputs: usize, kernel: usize) -> ConvTranspose2d {
        ConvTranspose2d {
            weight: noise_param(1, &[inputs, outputs, kernel, kernel]),
            bias: noise_param(2, &[outputs]),
        }
    }

    /// By its definition, in f64.
    fn direct(shape: [usize; 5], kernel: usize, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let [batch, height, width, inputs, outputs] = shape;
        let mut y = Vec::new();
        for index in 0..batch * height * kernel * width * kernel * outputs {
            let (position, output) = (index / outputs, index % outputs);
            let (row, col) = (position / (width * kernel), position % (width * kernel));
            let source = row / kernel * width + col / kernel;
            let tap = row % kernel * kernel + col % kernel;
            let term = |input: usize| {
                x[source * inputs + input] * weight[(input * outputs + output) * kernel * kernel + tap]
            };
            y.push(bias[output] + (0..inputs).map(term).sum::<f64>());
        }
        y
    }

    #[test]
    fn gradients_match_finite_differences() {
        let layer = deconv(3, 2, 2);
        let (x, shape) = (noise(3, 2 * 2 * 3 * 3), [2, 2, 3, 3, 2]);
        let params = [&layer.weight, &layer.bias];
        let outcome = run(&x, (2, 2, 3, 3), &params, |x| layer.forward(x, &context(false)));
        let [w, b] = params.map(|param| wide(&param.to_vec().unwrap()));
        let loss = |x: &[f64], w: &[f64], b: &[f64]| -> f64 {
            let y = direct(shape, 2, x, w, b);
            y.iter().zip(loss_weights(y.len())).map(|(y, weight)| y * f64::from(weight)).sum()
        };
        check_gradient(&x, &outcome.grads[0], |x| loss(x, &w, &b));
        check_gradient(&layer.weight.to_vec().unwrap(), &outcome.grads[1], |w| loss(&wide(&x), w, &b));
        check_gradient(&layer.bias.to_vec().unwrap(), &outcome.grads[2], |b| loss(&wide(&x), &w, b));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn equals_its_definition(
            (batch, height, width) in (1usize..3, 1usize..5, 1usize..5),
            (inputs, outputs, kernel) in (1usize..5, 1usize..5, 1usize..4),
        ) {
            let layer = deconv(inputs, outputs, kernel);
            let x = noise(3, batch * height * width * inputs);
            let params = [&layer.weight, &layer.bias];
            let own =
                run(&x, (batch, height, width, inputs), &params, |x| layer.forward(x, &context(false)));
            let [weight, bias] = params.map(|param| wide(&param.to_vec().unwrap()));
            let shape = [batch, height, width, inputs, outputs];
            assert_close(&own.values, &direct(shape, kernel, &wide(&x), &weight, &bias), 1e-5);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || Tensor::from_vec(vec![0.0; 6], (1, 1, 2, 3), &Tape::none()).unwrap();
        assert!(deconv(3, 2, 2).forward(x(), &context(false)).is_ok());
        assert!(deconv(2, 3, 2).forward(x(), &context(false)).is_err());
        let wide = ConvTranspose2d { bias: noise_param(2, &[3]), ..deconv(3, 2, 2) };
        assert!(wide.forward(x(), &context(false)).is_err());
    }
}
