//! Depthwise convolution of patch-sparse features.

use std::rc::Rc;

use dfdx::shapes::HasShape as _;

use crate::nn::tensor::{Error, Result, T3};
use crate::nn::{Param, PatchLayout};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Convolves every channel of `x`, `[B, P * cell * cell, C]`, with its own `K x K` kernel, `K` odd.
///
/// `weight` is `[C, 1, K, K]`, `bias` `[C]`. The padding is `K / 2` zeros; absent patches read as zeros, and the output exists at
/// kept positions only. `visible`, `[B, P * cell * cell]`, multiplies the input first (masks of a stage of their own).
///
/// # Errors
/// If the shapes do not fit.
pub fn depthwise(
    x: T3,
    weight: &Param,
    bias: Option<&Param>,
    layout: &Rc<PatchLayout>,
    visible: Option<Rc<[f32]>>,
) -> Result<T3> {
    let (batch, positions, channels) = *x.shape();
    if (batch, positions) != (layout.batch(), layout.positions()) || channels == 0 {
        return Err(Error::Shape(format!(
            "features {:?} do not fit a layout of {} images with {} positions",
            x.shape(),
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
    if visible.as_ref().is_some_and(|visible| visible.len() != batch * positions) {
        return Err(Error::Shape(format!("the mask does not have {batch} x {positions} values")));
    }
    implementation::depthwise(x, weight, bias, layout, visible)
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use std::rc::Rc;

    use dfdx::shapes::HasShape as _;

    use crate::nn::kernels::depthwise::Depthwise;
    use crate::nn::kernels::reduce::{add, sum_rows};
    use crate::nn::ops::{flat, operation};
    use crate::nn::tensor::{Result, T3};
    use crate::nn::{Param, PatchLayout};

    pub fn depthwise(
        x: T3,
        weight: &Param,
        bias: Option<&Param>,
        layout: &Rc<PatchLayout>,
        visible: Option<Rc<[f32]>>,
    ) -> Result<T3> {
        let shape = *x.shape();
        let (channels, kernel) = (shape.2, weight.shape()[3]);
        let (weight, bias, layout) = (weight.clone(), bias.cloned(), Rc::clone(layout));
        operation(vec![flat(x)?], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let output = {
                let bias = bias.as_ref().map(Param::values);
                let conv = Depthwise { layout: &layout, channels, kernel };
                conv.forward(&x, &weight.values(), bias.as_deref(), visible.as_deref())
            };
            let backward = move |grad: &[f32]| {
                let conv = Depthwise { layout: &layout, channels, kernel };
                weight.accumulate_grad(|sum| add(sum, &conv.grad_weight(&x, grad, visible.as_deref())));
                if let Some(bias) = &bias {
                    bias.accumulate_grad(|sum| sum_rows(grad, sum));
                }
                vec![conv.grad_input(grad, &weight.values(), visible.as_deref())]
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use std::rc::Rc;

    use dfdx::shapes::{Axes2, Axis, HasShape as _};
    use dfdx::tensor_ops::{
        BroadcastTo as _, PermuteTo as _, ReshapeTo as _, SumTo as _, TryAdd as _, TryMul as _,
    };

    use crate::nn::kernels::depthwise::Depthwise;
    use crate::nn::ops::rows::gather_taps;
    use crate::nn::tensor::{Result, T2, T3, from_vec, tape_of};
    use crate::nn::{Param, PatchLayout};

    /// Holds what all taps read: `K * K` times the features.
    pub fn depthwise(
        x: T3,
        weight: &Param,
        bias: Option<&Param>,
        layout: &Rc<PatchLayout>,
        visible: Option<Rc<[f32]>>,
    ) -> Result<T3> {
        let (batch, positions, channels) = *x.shape();
        let tape = tape_of(&x);
        let rows = batch * positions;
        let mut x: T2 = x.try_reshape_like(&(rows, channels))?;
        if let Some(visible) = visible {
            let visible = from_vec(visible.to_vec(), (rows,), &tape)?;
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
        Ok(output.try_reshape_like(&(batch, positions, channels))?)
    }
}
