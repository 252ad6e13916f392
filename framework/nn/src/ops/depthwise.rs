//! Depthwise convolution of patch-sparse features.

use std::rc::Rc;

use crate::tensor::{Error, Result, Tensor};
use crate::{Param, PatchLayout, Tape};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// What a depthwise convolution of `x`, `[B, P * cell * cell, C]`, needs besides it.
#[derive(Debug, Clone, Copy)]
pub struct DepthwiseParams<'a> {
    /// `[C, 1, K, K]`, `K` odd.
    pub weight: &'a Param,
    /// `[C]`.
    pub bias: Option<&'a Param>,
    /// Where the positions lie.
    pub layout: &'a Rc<PatchLayout>,
    /// What the input is multiplied by first (masks of a stage of their own), `[B, P * cell * cell]`.
    pub visible: Option<&'a Rc<[f32]>>,
}

impl DepthwiseParams<'_> {
    /// That they fit features of this shape.
    pub(super) fn check(self, (batch, positions, channels): (usize, usize, usize)) -> Result<()> {
        let Self { weight, bias, layout, visible } = self;
        if (batch, positions) != (layout.batch(), layout.positions()) || channels == 0 {
            return Err(Error::Shape(format!(
                "features {:?} do not fit a layout of {} images with {} positions",
                (batch, positions, channels),
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
        super::check_bias(bias, channels)?;
        for param in std::iter::once(weight).chain(bias) {
            super::check_allocated(param)?;
        }
        if visible.is_some_and(|visible| visible.len() != batch * positions) {
            return Err(Error::Shape(format!("the mask does not have {batch} x {positions} values")));
        }
        Ok(())
    }
}

/// Convolves every channel of `x`, `[B, P * cell * cell, C]`, with its own kernel.
///
/// The padding is `K / 2` zeros; absent patches read as zeros, and the output exists at kept positions only. The gradients of
/// the parameters are recorded on `tape`, also where `x` is a constant.
///
/// # Errors
/// If the shapes do not fit.
pub fn depthwise(x: Tensor, params: DepthwiseParams<'_>, tape: &Tape) -> Result<Tensor> {
    params.check(x.dims3()?)?;
    implementation::depthwise(x, params, tape)
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use super::DepthwiseParams;
    use crate::Tape;
    use crate::kernels::Buffer;
    use crate::ops::layers::Depthwise;
    use crate::ops::operation_on;
    use crate::tensor::{Result, Tensor};

    pub fn depthwise(x: Tensor, params: DepthwiseParams<'_>, tape: &Tape) -> Result<Tensor> {
        let shape = x.shape();
        let layer = Depthwise::new(params);
        let wants_input = x.tape().is_recording();
        operation_on(tape, vec![x], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let output = layer.forward(&x);
            let kept = layer.keeps_input().then_some(x);
            let backward = move |grad: Buffer| {
                layer.backward_params(&grad, kept.as_deref().unwrap_or_default());
                wants_input.then(|| layer.backward_input(&grad)).into_iter().collect()
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes2, Axis};
    use dfdx::tensor::Merge as _;
    use dfdx::tensor_ops::{
        BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SumTo as _, TryAdd as _, TryMul as _,
    };

    use super::DepthwiseParams;
    use crate::Tape;
    use crate::kernels::depthwise::Depthwise;
    use crate::ops::rows::{T2, constant, gather_taps};
    use crate::tensor::{Result, Tensor};

    /// Holds what all taps read: `K * K` times the features.
    pub fn depthwise(x: Tensor, params: DepthwiseParams<'_>, tape: &Tape) -> Result<Tensor> {
        let DepthwiseParams { weight, bias, layout, visible } = params;
        let (batch, positions, channels) = x.dims3()?;
        let tape = x.tape().merge(tape.clone());
        let rows = batch * positions;
        let mut x = x.typed((rows, channels))?;
        if let Some(visible) = visible {
            let visible = constant(visible.to_vec(), (rows,))?;
            x = x.try_mul(visible.try_broadcast_like::<_, Axis<1>>(&(rows, channels))?)?;
        }
        let kernel = weight.shape()[3];
        let taps = kernel * kernel;
        let sources = Depthwise { layout, channels, kernel }.sources();
        let read = gather_taps(x, &sources, taps)?;
        let weight: T2 = weight.tensor(&tape)?.try_reshape_like(&(channels, taps))?;
        let weight = weight.try_permute::<_, Axes2<1, 0>>()?;
        let weight = weight.try_broadcast_like::<_, Axis<0>>(&(rows, taps, channels))?;
        let mut output: T2 = read.try_mul(weight)?.try_sum::<_, Axis<1>>()?;
        if let Some(bias) = bias {
            let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(rows, channels))?;
            output = output.try_add(bias)?;
        }
        Tensor::from_typed(output)?.reshape((batch, positions, channels))
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tensor::Tensor;
    use crate::testing::{
        assert_close, check_gradient, loss_weights, noise, noise_param, on_threads, run, wide,
    };

    fn with<'a>(
        weight: &'a Param,
        bias: Option<&'a Param>,
        layout: &'a Rc<PatchLayout>,
        visible: Option<&'a Rc<[f32]>>,
    ) -> DepthwiseParams<'a> {
        DepthwiseParams { weight, bias, layout, visible }
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
        let (weight, bias) = (noise_param(1, &[channels, 1, kernel, kernel]), noise_param(2, &[channels]));
        let x = noise(3, len);
        let outcome = run(&x, (2, 16, channels), &[&weight, &bias], |x| {
            depthwise(x, with(&weight, Some(&bias), &layout, Some(&visible)), &Tape::none())
        });
        let (x, w, b) = (x, weight.values().to_vec(), bias.values().to_vec());
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
            let (weight, bias) = (noise_param(1, &[channels, 1, kernel, kernel]), noise_param(2, &[channels]));
            let x = noise(3, batch * positions * channels);
            let shape = (batch, positions, channels);
            let own = run(&x, shape, &[&weight, &bias], |x| {
                depthwise(x, with(&weight, Some(&bias), &layout, visible.as_ref()), &Tape::none())
            });
            let expected =
                dense(&wide(&x), &wide(&weight.values()), &wide(&bias.values()), kernel, &layout, visible.as_deref());
            assert_close(&own.values, &expected, 1e-5);
            let other = run(&x, shape, &[&weight, &bias], |x| {
                composed::depthwise(x, with(&weight, Some(&bias), &layout, visible.as_ref()), &Tape::none())
            });
            own.assert_close(&other, 2e-5);
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads| {
            on_threads(threads, || {
                let layout = random_layout(3, 6, 7, 4, 29);
                let (weight, bias) = (noise_param(1, &[24, 1, 5, 5]), noise_param(2, &[24]));
                run(&noise(3, 3 * 29 * 16 * 24), (3, 29 * 16, 24), &[&weight, &bias], |x| {
                    depthwise(x, with(&weight, Some(&bias), &layout, None), &Tape::none())
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
        let weight = noise_param(1, &[2, 1, 3, 3]);
        let none = Tape::none();
        assert!(depthwise(x(12), with(&weight, None, &layout, None), &none).is_ok());
        assert!(depthwise(x(16), with(&weight, None, &layout, None), &none).is_err());
        let mask: Rc<[f32]> = Rc::new([1.0; 11]);
        assert!(depthwise(x(12), with(&weight, None, &layout, Some(&mask)), &none).is_err());
        let bias = noise_param(1, &[3]);
        assert!(depthwise(x(12), with(&weight, Some(&bias), &layout, None), &none).is_err());
        for shape in [[2, 1, 2, 2], [2, 1, 3, 5], [3, 1, 3, 3], [2, 2, 3, 3]] {
            let weight = noise_param(1, &shape);
            assert!(depthwise(x(12), with(&weight, None, &layout, None), &none).is_err(), "{shape:?}");
        }
    }
}
