//! Convolution of maps.

use dfdx::shapes::{Axes3, Axis, HasShape as _};
use dfdx::tensor_ops::{BroadcastTo as _, PermuteTo as _, ReshapeTo as _, TryAdd as _, TryMatMul as _};

use super::rows::gather_taps;
use crate::nn::Param;
use crate::nn::kernels::conv2d::Conv2d;
pub use crate::nn::kernels::conv2d::Window;
use crate::nn::tensor::{Error, Result, T2, T3, T4, tape_of};

/// Convolves maps `[B, H, W, C]` to `[B, H', W', O]`. `weight` is `[O, C, k, k]`, `bias` `[O]`.
///
/// Fails where the shapes do not fit, or the kernel does not fit into the map.
pub fn conv2d(x: T4, weight: &Param, bias: Option<&Param>, window: Window) -> Result<T4> {
    let conv = check(&x, weight, bias, window)?;
    #[cfg(not(feature = "cuda"))]
    return fused(x, weight, bias, conv);
    #[cfg(feature = "cuda")]
    return composed_as(x, weight, bias, &conv);
}

fn check(x: &T4, weight: &Param, bias: Option<&Param>, window: Window) -> Result<Conv2d> {
    let (batch, height, width, in_channels) = *x.shape();
    let &[out_channels, weight_channels, kernel, kernel_width] = weight.shape() else {
        return Err(Error::Shape(format!(
            "{}: a convolution's weight is [O, C, k, k], not {:?}",
            weight.name(),
            weight.shape()
        )));
    };
    if weight_channels != in_channels || kernel_width != kernel || kernel == 0 {
        return Err(Error::Shape(format!(
            "{}: a weight for {in_channels} channels is [O, {in_channels}, k, k], not {:?}",
            weight.name(),
            weight.shape()
        )));
    }
    if let Some(bias) = bias.filter(|bias| bias.shape() != [out_channels]) {
        return Err(Error::Shape(format!(
            "{}: the bias of {out_channels} channels is not {:?}",
            bias.name(),
            bias.shape()
        )));
    }
    if window.stride == 0 || window.dilation == 0 {
        return Err(Error::Value("the stride and dilation of a convolution are at least 1".into()));
    }
    let output = [height, width].map(|side| window.output(side, kernel));
    let [Some(out_height), Some(out_width)] = output else {
        return Err(Error::Shape(format!(
            "{}: a {kernel} x {kernel} kernel with {window:?} does not fit into a map of {height} x {width}",
            weight.name()
        )));
    };
    let (input, output) = ([height, width], [out_height, out_width]);
    Ok(Conv2d { batch, input, output, in_channels, out_channels, kernel, window })
}

#[cfg(not(feature = "cuda"))]
fn fused(x: T4, weight: &Param, bias: Option<&Param>, conv: Conv2d) -> Result<T4> {
    use crate::nn::kernels::reduce::{add, sum_rows};

    let shape = (conv.batch, conv.output[0], conv.output[1], conv.out_channels);
    let (weight, bias) = (weight.clone(), bias.cloned());
    super::operation(vec![super::flat(x)?], shape, move |mut inputs, _| {
        let x = inputs.swap_remove(0);
        let output = {
            let bias = bias.as_ref().map(Param::values);
            conv.forward(&x, &weight.values(), bias.as_deref())
        };
        let backward: super::Backward = Box::new(move |grad| {
            weight.accumulate_grad(|sum| add(sum, &conv.grad_weight(&x, grad)));
            if let Some(bias) = &bias {
                bias.accumulate_grad(|sum| sum_rows(grad, sum));
            }
            vec![conv.grad_input(grad, &weight.values())]
        });
        Ok((output, Some(backward)))
    })
}

/// [`conv2d`], composed of dfdx's operations. Holds what all taps read: `k * k` times the input.
pub fn composed(x: T4, weight: &Param, bias: Option<&Param>, window: Window) -> Result<T4> {
    let conv = check(&x, weight, bias, window)?;
    composed_as(x, weight, bias, &conv)
}

fn composed_as(x: T4, weight: &Param, bias: Option<&Param>, conv: &Conv2d) -> Result<T4> {
    let Conv2d { batch, input, output, in_channels, out_channels, kernel, .. } = *conv;
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
        y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&(positions, out_channels))?)?;
    }
    Ok(y.try_reshape_like(&(batch, output[0], output[1], out_channels))?)
}
