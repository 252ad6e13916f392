//! What tensors are computed with: the kernels of the CPU, or with the feature `cuda` those of NVIDIA's cards.
//!
//! The contract, function by function. Operations and layers call nothing else, so what another device needs is a module with the same
//! names. What a device computes may fail, for want of memory first of all.

// A signature is the shortest way to say what it is.
#![allow(clippy::type_complexity)]

// Between dfdx and the kernels: dfdx's device is the CPU or a card by the same feature.
#[cfg(not(feature = "cuda"))]
#[path = "cpu/bridge.rs"]
pub mod bridge;
#[cfg(feature = "cuda")]
#[path = "cuda/mod.rs"]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "cpu/device.rs"]
pub mod device;

#[cfg(not(feature = "cuda"))]
pub use crate::cpu::*;
#[cfg(feature = "cuda")]
pub use cuda::*;

use crate::device::{Device, DeviceName};
use crate::dry_run::Held;
use crate::{PatchLayout, Pixels, Result, Shape};

const _: DeviceName = device::DEFAULT;
const _: usize = device::LARGE_MATRIX;
const _: fn(DeviceName) -> Result<Device> = device::open;
const _: fn(DeviceName) -> Option<String> = device::model;
const _: fn(DeviceName) -> Option<u64> = device::peak_memory;
const _: fn(DeviceName) -> Option<Held> = device::held;
const _: fn(DeviceName) = device::forget_peak;
const _: fn(DeviceName) -> Option<u64> = device::memory;
const _: fn() -> bool = device::computes_in_bf16;

const _: fn(usize) -> Result<Buffer> = unspecified;
const _: fn(Vec<f32>) -> Result<Buffer> = upload;
const _: fn(&Values) -> Result<Vec<f32>> = download;
// The same, to where they are wanted, and back.
const _: fn(&Values, &mut [f32]) -> Result<()> = read;
const _: fn(&mut Values, &[f32]) -> Result<()> = write;
// The same of several, while the host waits once.
const _: fn(&[&Values]) -> Result<Vec<Vec<f32>>> = download_all;
const _: fn(usize) -> Result<Buffer> = zeros;
const _: fn(&Values) -> Result<Buffer> = copy;
// Values as products take them, if they are stored in another way; values in `f32`. What a layer yields is in `f32`, what a branch
// yields to be added to a residual need not be.
const _: fn(&Values) -> Result<Option<Buffer>> = operand;
const _: fn(&mut Buffer) -> Result<Option<Buffer>> = take_operand;
const _: fn(&Values) -> bool = is_rounded;
const _: fn(Vec<(&Values, &mut Values)>) -> Result<()> = round_all;
const _: fn(Buffer) -> Result<Buffer> = single;

// Images go to the device beside what that computes; there they are normalised when they are read.
const _: fn(&Pixels, Shape) -> Result<images::Uploaded> = images::upload;
const _: fn(&images::Uploaded) -> Result<Buffer> = images::normalized;

// From and to tensors of dfdx, and its gradients: one that is taken leaves nothing.
const _: fn(bridge::Flat) -> Result<Buffer> = bridge::from_tensor;
const _: fn(Buffer) -> Result<bridge::Flat> = bridge::into_tensor;
const _: fn(&mut bridge::Gradient) -> Result<Buffer> = bridge::take_grad;
const _: fn(&mut bridge::Gradient, &Values) -> Result<()> = bridge::add_grad;

// y += x; y or y + x by the mode; y *= x; y *= factor.
const _: fn(&mut Values, &Values) -> Result<()> = elementwise::add_assign;
const _: fn(&mut Values, &Values, Output) -> Result<()> = elementwise::accumulate;
const _: fn(&mut Values, &Values) -> Result<()> = elementwise::mul_assign;
const _: fn(&mut Values, f32) -> Result<()> = elementwise::scale;
// Parts of equal length, or the channels of maps, times a factor each.
const _: fn(&mut Values, &Values) -> Result<()> = elementwise::scale_parts;
const _: fn(&mut Values, &Values, usize) -> Result<()> = elementwise::scale_channels;
// The sum of rows, `[R, C]` to `[C]`.
const _: fn(&Values, &mut Values, Output) -> Result<()> = chunks::sum_rows;

const _: fn(&Values) -> Result<Buffer> = gelu::forward;
// The gradient in place, and the activation in place of what went into it.
const _: fn(&mut Values, &mut Values) -> Result<()> = gelu::backward_and_recompute;
const _: fn(&Values) -> Result<Buffer> = relu::forward;
const _: fn(&mut Values, &Values) -> Result<()> = relu::backward;

// Rows `[R, I]` to `[R, O]`, stored as the input is; the same plus a residual, stored as that is; the same with its GELU. Gradients of
// rows are stored as those of the output, those of weights and biases in `f32`. What is added to rows is stored as they are, or in `f32`.
const _: fn(&Values, &Values, Option<&Values>, usize, usize) -> Result<Buffer> = linear::forward;
const _: fn(&Values, &Values, Option<&Values>, usize, usize, &Values) -> Result<Buffer> =
    linear::forward_residual;
const _: fn(&Values, &Values, Option<&Values>, usize, usize) -> Result<[Buffer; 2]> = linear::forward_gelu;
const _: fn(&Values, &Values, usize, usize) -> Result<Buffer> = linear::backward_input;
const _: fn(&Values, &Values, usize, usize, &mut Values) -> Result<Buffer> = linear::backward_input_gelu;
const _: fn(&Values, &Values, usize, usize, &mut Values, Output) -> Result<()> = linear::backward_weight;
const _: fn(&Values, &Values, usize, usize, (&mut Values, Output), (&mut Values, Output)) -> Result<()> =
    linear::backward_params;

const _: fn(&Values, &Values, &Values, f32) -> Result<(Buffer, layer_norm::Statistics)> = layer_norm::forward;
// The same as products take it; that once more.
const _: fn(&Values, &Values, &Values, f32) -> Result<(Buffer, layer_norm::Statistics)> = layer_norm::operand;
const _: fn(&Values, &layer_norm::Statistics, &Values, &Values) -> Result<Buffer> = layer_norm::recompute;
// Adds the gradient of the rows, and those of weight and bias where they are asked for.
const _: fn(
    &Values,
    &Values,
    &layer_norm::Statistics,
    &Values,
    &mut Buffer,
    [Option<(&mut Values, Output)>; 2],
) -> Result<()> = layer_norm::backward_onto;

const _: fn(Buffer, &Values, Option<&Values>, Option<&Values>) -> Result<Buffer> = residual::add_branch;
const _: fn(&Values, &Values) -> Result<Buffer> = residual::scaled_grad;

const _: fn(&Values, usize) -> Result<batch_norm::Moments> = batch_norm::moments;
const _: fn(&Values, &Values) -> Result<batch_norm::Moments> = batch_norm::running_moments;
const _: fn(&mut Values, &mut Values, &batch_norm::Moments, usize, f32) -> Result<()> =
    batch_norm::update_running;
const _: fn(&Values, &batch_norm::Moments, Option<[&Values; 2]>, f32) -> Result<Buffer> = batch_norm::forward;
const _: fn(&Values, &Values, &batch_norm::Moments, f32) -> Result<[Buffer; 2]> = batch_norm::grad_affine;
const _: fn(
    &Values,
    &mut Values,
    &batch_norm::Moments,
    Option<&Values>,
    f32,
    Option<([&Values; 2], usize)>,
) -> Result<()> = batch_norm::grad_input;

// The biases of scores by position are never held for all of them at once, where that can be had.
const _: fn(
    &Values,
    Option<&attention::RelativePositions<'_, Values>>,
    attention::Dims,
) -> Result<(Buffer, attention::Normalisers)> = attention::forward;
// The gradients of `qkv` and of the tables of positions, from that of the output, the output, and what it was computed from.
const _: fn(
    &Values,
    &Values,
    &Values,
    Option<&attention::RelativePositions<'_, Values>>,
    &attention::Normalisers,
    attention::Dims,
) -> Result<(Buffer, Vec<Buffer>)> = attention::backward;

// Masks are of the host.
const _: fn(&depthwise::Depthwise<'_>, &Values, &Values, Option<&Values>, Option<&[f32]>) -> Result<Buffer> =
    depthwise::forward;
const _: fn(&depthwise::Depthwise<'_>, &Values, &Values, Option<&[f32]>) -> Result<Buffer> =
    depthwise::grad_input;
const _: fn(&depthwise::Depthwise<'_>, &Values, &Values, Option<&[f32]>) -> Result<Buffer> =
    depthwise::grad_weight;
const _: fn(&conv2d::Conv2d, &Values, &Values, Option<&Values>) -> Result<Buffer> = conv2d::forward;
const _: fn(&conv2d::Conv2d, &Values, &Values) -> Result<Buffer> = conv2d::grad_input;
const _: fn(&conv2d::Conv2d, &Values, &Values) -> Result<Buffer> = conv2d::grad_weight;

// Rows by index, with one row more for what is past the last; the gradients of all rows, and of one.
const _: fn(&Values, Option<&Values>, usize, &[u32]) -> Result<Buffer> = tokens::gather_rows;
const _: fn(&mut Values, &Values, usize, &[u32]) -> Result<()> = tokens::add_rows;
const _: fn(&Values, usize, &tokens::InverseIndex, &mut Values, Output) -> Result<()> = tokens::scatter_rows;
const _: fn(&Values, usize, &tokens::InverseIndex, usize) -> Result<Buffer> = tokens::scatter_row;
const _: fn(&[Buffer], &[usize]) -> Result<Buffer> = concat::forward;
const _: fn(&Values, &[usize]) -> Result<Vec<Buffer>> = concat::backward;
const _: fn(&images::Uploaded, usize, &PatchLayout) -> Result<Buffer> = patches::windows;
const _: fn(&Values, usize, usize, usize) -> Result<Buffer> = patches::merge_cells;
const _: fn(&Values, usize, usize, usize) -> Result<Buffer> = patches::split_cells;
const _: fn(&Values, usize, usize) -> Result<Buffer> = pool::mean_tokens;
const _: fn(&Values, usize, usize) -> Result<Buffer> = pool::mean_tokens_grad;
const _: fn(&max_pool::MaxPool, &Values) -> Result<(Buffer, max_pool::Argmax)> = max_pool::forward;
const _: fn(&max_pool::MaxPool, &Values, &max_pool::Argmax) -> Result<Buffer> = max_pool::backward;
const _: fn(&resample::Resample, &Values, usize) -> Result<Buffer> = resample::forward;
const _: fn(&resample::Resample, &Values, usize) -> Result<Buffer> = resample::grad_input;
// Maps of all levels; regions are of the host.
const _: fn(&roi_align::RoiAlign, &[Buffer], &[roi_align::Roi]) -> Result<Buffer> = roi_align::forward;
const _: fn(&roi_align::RoiAlign, &Values, &[roi_align::Roi]) -> Result<Vec<Buffer>> = roi_align::backward;

// Targets and masks are of the host, but for targets of pixels; losses and their gradients are `[1]`.
const _: fn(Vec<f32>) -> Result<loss::Target> = loss::values_target;
const _: fn(&images::Uploaded, usize, bool) -> Result<loss::Target> = loss::pixels_target;
const _: fn(&Values, loss::Target, &[f32]) -> Result<(Buffer, loss::Compared)> = loss::masked_mse;
const _: fn(&Values, &loss::Compared, &Values) -> Result<Buffer> = loss::masked_mse_grad;
const _: fn(
    &Values,
    &[Option<cross_entropy::ClassTarget>],
    &cross_entropy::Criterion,
) -> Result<(Buffer, cross_entropy::LogSums)> = cross_entropy::forward;
const _: fn(
    &Values,
    &cross_entropy::LogSums,
    &[Option<cross_entropy::ClassTarget>],
    &cross_entropy::Criterion,
    &Values,
) -> Result<Buffer> = cross_entropy::backward;
// The targets' indices ascend.
const _: fn(pointwise_loss::PointwiseLoss, &Values, &[pointwise_loss::ValueTarget], f32) -> Result<Buffer> =
    pointwise_loss::forward;
const _: fn(
    pointwise_loss::PointwiseLoss,
    &Values,
    &[pointwise_loss::ValueTarget],
    f32,
    &Values,
) -> Result<Buffer> = pointwise_loss::backward;

// From gradients, losses and the largest norm to what updates take of the gradients, and to what the host reads: with the next step, where
// that is late.
const _: bool = step_end::IS_LATE;
const _: fn() -> Result<step_end::StepEnd> = step_end::StepEnd::new;
const _: fn(&mut step_end::StepEnd, &[&Values], &[&Values], Option<f64>) -> Result<step_end::Readback> =
    step_end::StepEnd::finish;
const _: fn(&mut step_end::StepEnd, step_end::Readback) -> Result<step_end::Figures> =
    step_end::StepEnd::read;
const _: fn(&step_end::StepEnd) -> &step_end::GradScale = step_end::StepEnd::scale;
const _: fn() -> Result<step_end::GradScale> = step_end::GradScale::one;
const _: fn(&step_end::GradScale) -> Result<Option<f32>> = step_end::GradScale::factor;
const _: fn(Vec<adamw::AdamwTensor<'_>>, &step_end::GradScale) -> Result<()> = adamw::adamw;
const _: fn(Vec<sgd::SgdTensor<'_>>, &step_end::GradScale) -> Result<()> = sgd::sgd;
const _: fn(Vec<ema::EmaTensor<'_>>) -> Result<()> = ema::ema;
const _: fn(Vec<lars::LarsTensor<'_>>, &step_end::GradScale) -> Result<()> = lars::lars;
