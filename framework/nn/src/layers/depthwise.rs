//! Depthwise convolution of patch-sparse features.

use std::rc::Rc;

use crate::backend::{Buffer, Values, chunks, depthwise};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, PatchLayout, Scope, Shape};

/// A depthwise convolution: every channel with its own kernel, stride 1, padding `K / 2`.
///
/// ```
/// use std::rc::Rc;
///
/// use convmae_nn::layers::DepthwiseConv2d;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, PatchLayout, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let conv = DepthwiseConv2d::new(&scope.child("attn"), 1, 3);
/// conv.weight.set(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0])?;
/// conv.bias.set(&[0.5])?;
/// // A row of three patches of one position; the middle one is absent.
/// let layout = Rc::new(PatchLayout::new(1, 3, 1, 2, vec![0, 2])?);
/// let x = Tensor::from_vec(vec![1.0, 2.0], (1, 2, 1), &ctx.tape)?;
/// assert_eq!(conv.forward(x, &layout, None, &ctx)?.to_vec()?, [1.5, 2.5]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DepthwiseConv2d {
    /// `[C, 1, K, K]`, `K` odd.
    pub weight: Param,
    /// `[C]`.
    pub bias: Param,
}

impl DepthwiseConv2d {
    /// With a kernel of odd side, and PyTorch's default initialisation.
    pub fn new(scope: &Scope, channels: usize, kernel: usize) -> Self {
        // One input channel for each kernel.
        let init = Init::kaiming_uniform(kernel * kernel);
        Self {
            weight: scope.param("weight", &[channels, 1, kernel, kernel], &init),
            bias: scope.param("bias", &[channels], &init),
        }
    }

    /// Features `[B, P * cell * cell, C]` to the same shape. `visible`, `[B, P * cell * cell]`, is what the input is multiplied by first
    /// (masks of a stage of their own). Absent patches read as zeros, and the output exists at kept positions only.
    ///
    /// # Errors
    /// If the shapes do not fit, or the device fails.
    pub fn forward(
        &self,
        x: Tensor,
        layout: &Rc<PatchLayout>,
        visible: Option<&Rc<[f32]>>,
        ctx: &Context,
    ) -> Result<Tensor> {
        apply(self.over(layout, visible), x, ctx)
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        positions as u64 * self.weight.numel() as u64
    }

    /// On features of a layout.
    pub(super) fn over(&self, layout: &Rc<PatchLayout>, visible: Option<&Rc<[f32]>>) -> SparseDepthwise {
        SparseDepthwise { conv: self.clone(), layout: Rc::clone(layout), visible: visible.cloned() }
    }
}

/// A [`DepthwiseConv2d`] of features of one layout.
#[derive(Debug, Clone)]
pub(super) struct SparseDepthwise {
    pub conv: DepthwiseConv2d,
    layout: Rc<PatchLayout>,
    visible: Option<Rc<[f32]>>,
}

impl SparseDepthwise {
    /// That the parameters and the mask fit features of this shape.
    pub fn check(&self, input: Shape) -> Result<()> {
        let Self { conv: DepthwiseConv2d { weight, bias }, layout, visible } = self;
        let (batch, positions, channels) = input.dims3()?;
        if (batch, positions) != (layout.batch(), layout.positions()) || channels == 0 {
            return Err(Error::Shape(format!(
                "features {input:?} do not fit a layout of {} images with {} positions",
                layout.batch(),
                layout.positions()
            )));
        }
        let kernel = weight.shape().last().copied().unwrap_or(0);
        if weight.shape() != [channels, 1, kernel, kernel] || kernel % 2 == 0 {
            return Err(Error::Shape(format!(
                "{}: a depthwise kernel of {channels} channels is [{channels}, 1, K, K] with an odd K, not {:?}",
                weight.name(),
                weight.shape()
            )));
        }
        if visible.as_ref().is_some_and(|visible| visible.len() != batch * positions) {
            return Err(Error::Shape(format!("the mask does not have {batch} x {positions} values")));
        }
        weight.check_allocated()?;
        bias.check_channels(channels)
    }

    /// Rows of positions to rows.
    pub fn forward_rows(&self, x: &Values) -> Result<Buffer> {
        let (weight, bias) = (self.conv.weight.values(), self.conv.bias.values());
        depthwise::forward(&self.kernel(), x, &weight, Some(&bias), self.visible.as_deref())
    }

    /// Adds the gradients of the parameters. The input `x` is needed by a weight that is trained.
    pub fn backward_params(&self, grad: &Values, x: Option<&Values>) -> Result<()> {
        if let Some(x) = x.filter(|_| self.conv.weight.requires_grad()) {
            let visible = self.visible.as_deref();
            self.conv.weight.add_grad(depthwise::grad_weight(&self.kernel(), x, grad, visible)?)?;
        }
        self.conv.bias.accumulate_grad(|sum, mode| chunks::sum_rows(grad, sum, mode))
    }

    /// The gradient of the input.
    pub fn backward_input(&self, grad: &Values) -> Result<Buffer> {
        depthwise::grad_input(&self.kernel(), grad, &self.conv.weight.values(), self.visible.as_deref())
    }

    fn kernel(&self) -> depthwise::Depthwise<'_> {
        let shape = self.conv.weight.shape();
        let (channels, kernel) = (shape[0], shape[shape.len() - 1]);
        depthwise::Depthwise { layout: &self.layout, channels, kernel }
    }
}

impl Layer for SparseDepthwise {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.check(input)?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        self.conv.weight.requires_grad() || self.conv.bias.requires_grad()
    }

    fn forward(self: Box<Self>, x: Buffer, _: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let y = self.forward_rows(&x)?;
        // A frozen weight needs no input kept.
        let saved = self.conv.weight.requires_grad().then_some(x);
        let backward = move |grad: Buffer| {
            self.backward_params(&grad, saved.as_deref())?;
            pass.wants_input.then(|| self.backward_input(&grad)).transpose()
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{
        assert_close, check_gradient, context, loss_weights, noise, noise_param, on_threads, run, wide,
    };
    use crate::{Tape, oracle};

    fn conv(channels: usize, kernel: usize) -> DepthwiseConv2d {
        DepthwiseConv2d {
            weight: noise_param(1, &[channels, 1, kernel, kernel]),
            bias: noise_param(2, &[channels]),
        }
    }

    /// A layout that keeps `kept` random patches, in random order.
    fn random_layout(batch: usize, rows: usize, cols: usize, cell: usize, kept: usize) -> Rc<PatchLayout> {
        let ids = (0..batch).flat_map(|image| {
            let mut shuffled: Vec<(f32, u32)> =
                noise(image as u64 + 7, rows * cols).into_iter().zip(0..).collect();
            shuffled.sort_by(|a, b| a.0.total_cmp(&b.0));
            shuffled.into_iter().take(kept).map(|(_, id)| id)
        });
        Rc::new(PatchLayout::new(rows, cols, cell, kept, ids.collect()).unwrap())
    }

    /// The operation as a plain convolution in f64 of the dense map, where absent patches are zeros.
    fn dense(
        x: &[f64],
        weight: &[f64],
        bias: &[f64],
        kernel: usize,
        layout: &PatchLayout,
        visible: Option<&[f32]>,
    ) -> Vec<f64> {
        let channels = bias.len();
        let PatchLayout { cols, cell, kept, .. } = *layout;
        let coordinates = |row: usize| {
            let (patch, position) = (row / (cell * cell), row % (cell * cell));
            let id = layout.ids[patch] as usize;
            let (y, x) = (id / cols * cell + position / cell, id % cols * cell + position % cell);
            (patch / kept, y as isize, x as isize)
        };
        let rows = x.len() / channels;
        let map: HashMap<_, _> = (0..rows).map(|row| (coordinates(row), row)).collect();
        let mut output = Vec::with_capacity(x.len());
        for row in 0..rows {
            let (image, top, left) = coordinates(row);
            for channel in 0..channels {
                let mut sum = bias[channel];
                for tap in 0..kernel * kernel {
                    let (dy, dx) = ((tap / kernel) as isize, (tap % kernel) as isize);
                    let half = (kernel / 2) as isize;
                    if let Some(&source) = map.get(&(image, top + dy - half, left + dx - half)) {
                        let visible = visible.map_or(1.0, |visible| f64::from(visible[source]));
                        let value = visible * x[source * channels + channel];
                        sum += value * weight[channel * kernel * kernel + tap];
                    }
                }
                output.push(sum);
            }
        }
        output
    }

    fn dot(a: &[f64], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let (kernel, channels) = (3, 3);
        let layout = random_layout(2, 2, 3, 2, 4);
        let len = 2 * 16 * channels;
        let visible: Rc<[f32]> = noise(5, 32).iter().map(|&value| f32::from(value > 0.0)).collect();
        let conv = conv(channels, kernel);
        let x = noise(3, len);
        let outcome = run(&x, (2, 16, channels), &[&conv.weight, &conv.bias], |x| {
            conv.forward(x, &layout, Some(&visible), &context(false))
        });
        let (x, w, b) = (x, conv.weight.to_vec().unwrap(), conv.bias.to_vec().unwrap());
        let loss = |x: &[f64], w: &[f64], b: &[f64]| {
            dot(&dense(x, w, b, kernel, &layout, Some(&visible)), &loss_weights(len))
        };
        check_gradient(&x, &outcome.grads[0], |x| loss(x, &wide(&w), &wide(&b)));
        check_gradient(&w, &outcome.grads[1], |w| loss(&wide(&x), w, &wide(&b)));
        check_gradient(&b, &outcome.grads[2], |b| loss(&wide(&x), &wide(&w), b));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn sparse_is_dense_with_zeros_and_agrees_with_the_composition(
            kernel in prop::sample::select(vec![1, 3, 5, 7, 9]),
            cell in prop::sample::select(vec![1, 2, 3, 4, 7]),
            (rows, cols) in (1usize..4, 1usize..5),
            channels in prop::sample::select(vec![1, 5, 16, 19, 33]),
            batch in 1usize..3,
            share in 0.0f32..1.0,
            masked in any::<bool>(),
        ) {
            let kept = ((rows * cols) as f32 * share) as usize + 1;
            let layout = random_layout(batch, rows, cols, cell, kept);
            let positions = layout.positions();
            let visible: Option<Rc<[f32]>> =
                masked.then(|| noise(5, batch * positions).iter().map(|&value| f32::from(value > 0.0)).collect());
            let conv = conv(channels, kernel);
            let params = [&conv.weight, &conv.bias];
            let x = noise(3, batch * positions * channels);
            let shape = (batch, positions, channels);
            let own = run(&x, shape, &params, |x| conv.forward(x, &layout, visible.as_ref(), &context(false)));
            let [weight, bias] = params.map(|param| wide(&param.to_vec().unwrap()));
            let expected = dense(&wide(&x), &weight, &bias, kernel, &layout, visible.as_deref());
            assert_close(&own.values, &expected, 1e-5);
            let other =
                run(&x, shape, &params, |x| oracle::depthwise(x, &conv, &layout, visible.as_deref()));
            own.assert_close(&other, 2e-5);
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads| {
            on_threads(threads, || {
                let layout = random_layout(3, 6, 7, 4, 29);
                let conv = conv(24, 5);
                run(&noise(3, 3 * 29 * 16 * 24), (3, 29 * 16, 24), &[&conv.weight, &conv.bias], |x| {
                    conv.forward(x, &layout, None, &context(false))
                })
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let layout = random_layout(1, 2, 2, 2, 3);
        let x = |positions: usize| {
            Tensor::from_vec(noise(1, positions * 2), (1, positions, 2), &Tape::none()).unwrap()
        };
        let fits = conv(2, 3);
        let refuses = |conv: &DepthwiseConv2d, positions, mask: Option<&Rc<[f32]>>| {
            conv.forward(x(positions), &layout, mask, &context(false)).is_err()
        };
        assert!(!refuses(&fits, 12, None));
        assert!(refuses(&fits, 16, None));
        let mask: Rc<[f32]> = Rc::new([1.0; 11]);
        assert!(refuses(&fits, 12, Some(&mask)));
        assert!(refuses(&DepthwiseConv2d { bias: noise_param(1, &[3]), ..fits.clone() }, 12, None));
        for shape in [[2, 1, 2, 2], [2, 1, 3, 5], [3, 1, 3, 3], [2, 2, 3, 3]] {
            let conv = DepthwiseConv2d { weight: noise_param(1, &shape), ..fits.clone() };
            assert!(refuses(&conv, 12, None), "{shape:?}");
        }
    }
}
