//! Convolution of maps.

use dfdx::shapes::HasShape as _;

use crate::nn::Param;
use crate::nn::kernels::conv2d::Conv2d;
pub use crate::nn::kernels::conv2d::Window;
use crate::nn::tensor::{Error, Result, T4};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Convolves maps `[B, H, W, C]` to `[B, H', W', O]`. `weight` is `[O, C, k, k]`, `bias` `[O]`.
///
/// # Errors
/// If the shapes do not fit, or the kernel does not fit into the map.
pub fn conv2d(x: T4, weight: &Param, bias: Option<&Param>, window: Window) -> Result<T4> {
    let conv = size(*x.shape(), weight, window)?;
    super::check_bias(bias, conv.out_channels)?;
    for param in std::iter::once(weight).chain(bias) {
        super::check_allocated(param)?;
    }
    implementation::conv2d(x, weight, bias, conv)
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
    use crate::nn::Param;
    use crate::nn::kernels::conv2d::Conv2d;
    use crate::nn::kernels::reduce::{add, sum_rows};
    use crate::nn::ops::{flat, operation};
    use crate::nn::tensor::{Result, T4};

    pub fn conv2d(x: T4, weight: &Param, bias: Option<&Param>, conv: Conv2d) -> Result<T4> {
        let shape = (conv.batch, conv.output[0], conv.output[1], conv.out_channels);
        let (weight, bias) = (weight.clone(), bias.cloned());
        operation(vec![flat(x)?], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let output = {
                let bias = bias.as_ref().map(Param::values);
                conv.forward(&x, &weight.values(), bias.as_deref())
            };
            let backward = move |grad: &[f32]| {
                weight.accumulate_grad(|sum| add(sum, &conv.grad_weight(&x, grad)));
                if let Some(bias) = &bias {
                    bias.accumulate_grad(|sum| sum_rows(grad, sum));
                }
                vec![conv.grad_input(grad, &weight.values())]
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::{Axes3, Axis};
    use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

    use crate::nn::Param;
    use crate::nn::kernels::conv2d::Conv2d;
    use crate::nn::ops::rows::gather_taps;
    use crate::nn::tensor::{Result, T2, T3, T4, tape_of};

    /// Holds what all taps read: `k * k` times the input.
    pub fn conv2d(x: T4, weight: &Param, bias: Option<&Param>, conv: Conv2d) -> Result<T4> {
        let Conv2d { batch, input, output, in_channels, out_channels, kernel, .. } = conv;
        let tape = tape_of(&x);
        let taps = kernel * kernel;
        let positions = batch * output[0] * output[1];
        let x: T2 = x.try_reshape_like(&(batch * input[0] * input[1], in_channels))?;
        let read = gather_taps(x, &conv.sources(), taps)?;
        let read: T2 = read.try_reshape_like(&(positions, taps * in_channels))?;
        let weight: T3 = weight.tensor(&tape)?.try_reshape_like(&(out_channels, in_channels, taps))?;
        let weight = weight.try_permute::<_, Axes3<2, 1, 0>>()?;
        let weight: T2 = weight.try_reshape_like(&(taps * in_channels, out_channels))?;
        let mut y: T2 = read.try_matmul(weight)?;
        if let Some(bias) = bias {
            let bias = bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(positions, out_channels))?;
            y = y.try_add(bias)?;
        }
        Ok(y.try_reshape_like(&(batch, output[0], output[1], out_channels))?)
    }
}
