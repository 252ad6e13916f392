//! Helpers of the tests of kernels and operations.
#![allow(clippy::panic, clippy::unwrap_used)]

use dfdx::tensor_ops::{SumTo as _, TryMul as _};
use rand::Rng as _;

use super::backend::{download, zeros};
use super::backward::backward;
use super::ops::operation;
use super::tensor::Tensor;
use super::{Context, Init, Param, Result, Scope, Shape, Tape};
use crate::random::{self, Purpose};

/// `len` values, uniform in `[-1, 1)`.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = random::stream(Purpose::Synthesis, &[seed]);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A trainable parameter filled with [`noise`].
pub fn noise_param(seed: u64, shape: &[usize]) -> Param {
    let values = noise(seed, shape.iter().product());
    Scope::new(0).param("p", shape, &Init::Values(values))
}

/// A pass that records on the tape of its input alone.
pub fn context(training: bool) -> Context {
    let mut ctx = Context::eval(random::stream(Purpose::Step, &[0]));
    ctx.training = training;
    ctx
}

/// Runs `work` in a rayon pool of `threads` threads.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// In `f64`, for comparisons.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Asserts that no value is off by more than `tolerance` times the largest expected magnitude (at least 1).
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1.0, |max: f64, value| max.max(value.abs()));
    for (i, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected).abs();
        assert!(error <= tolerance * scale, "value {i} is {actual}, expected {expected} (off by {error:e})");
    }
}

/// Asserts that `gradient` is that of `loss` at `x`, by central differences in `f64`.
#[track_caller]
pub fn check_gradient(x: &[f32], gradient: &[f32], loss: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let mut x = wide(x);
    let expected: Vec<f64> = (0..x.len())
        .map(|i| {
            let value = x[i];
            x[i] = value + STEP;
            let above = loss(&x);
            x[i] = value - STEP;
            let below = loss(&x);
            x[i] = value;
            (above - below) / (2.0 * STEP)
        })
        .collect();
    assert_close(gradient, &expected, 1e-5);
}

/// What an operation gives for one input, whose gradient follows from [`loss`].
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Of the output.
    pub values: Vec<f32>,
    /// Of the input, then of the parameters.
    pub grads: Vec<Vec<f32>>,
}

impl Outcome {
    /// Asserts that values and gradients are those of another way to compute the same.
    #[track_caller]
    pub fn assert_close(&self, other: &Self, tolerance: f64) {
        assert_close(&self.values, &wide(&other.values), tolerance);
        assert_eq!(self.grads.len(), other.grads.len());
        for (own, other) in self.grads.iter().zip(&other.grads) {
            assert_close(own, &wide(other), tolerance);
        }
    }
}

/// Runs `operation` and the backward of its [`loss`], and takes the parameters' gradients.
pub fn run(
    x: &[f32],
    shape: impl Into<Shape>,
    params: &[&Param],
    operation: impl FnOnce(Tensor) -> Result<Tensor>,
) -> Outcome {
    run_against(x, shape, params, loss_weights, operation)
}

/// [`run`] with other weights of the loss than [`loss_weights`], which are the gradient of the output.
pub fn run_against(
    x: &[f32],
    shape: impl Into<Shape>,
    params: &[&Param],
    weights: impl FnOnce(usize) -> Vec<f32>,
    operation: impl FnOnce(Tensor) -> Result<Tensor>,
) -> Outcome {
    let tape = Tape::new();
    let x = Tensor::from_vec(x.to_vec(), shape, &tape).unwrap();
    let y = operation(x.clone()).unwrap();
    let values = y.to_vec().unwrap();
    let gradients = backward(weighted(y, weights(values.len()))).unwrap();
    let grad = gradients.of(&x).unwrap();
    let grads = std::iter::once(grad).chain(params.iter().map(|param| take_grad(param))).collect();
    Outcome { values, grads }
}

/// The sum of the values, each times its own weight: [`loss_weights`].
pub fn loss(y: Tensor) -> Tensor {
    let weights = loss_weights(y.numel());
    weighted(y, weights)
}

fn weighted(y: Tensor, weights: Vec<f32>) -> Tensor {
    let flat = (y.numel(),);
    if weights.is_empty() {
        // dfdx adds up no empty tensor.
        let grad = |_| Ok(vec![Some(zeros(0)?)]);
        return operation(vec![y], (), |_, records| Ok((zeros(1)?, records.then(|| Box::new(grad) as _))))
            .unwrap();
    }
    let weights = Tensor::from_vec(weights, flat, &Tape::none()).unwrap().typed(flat).unwrap();
    Tensor::from_typed(y.typed(flat).unwrap().try_mul(weights).unwrap().sum::<(), _>()).unwrap()
}

/// The gradient of [`loss`].
pub fn loss_weights(len: usize) -> Vec<f32> {
    noise(99, len)
}

/// The gradient of a parameter, which is cleared.
pub fn take_grad(param: &Param) -> Vec<f32> {
    let grad = download(&param.grad().unwrap()).unwrap();
    param.clear_grad();
    grad
}

/// `P(X <= x)` of a standard normal `X`, by the series of the error function whose terms are all positive.
pub fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    let mut n = 1.0;
    while term.abs() > 1e-18 * sum.abs() {
        term *= x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    0.5 + (-0.5 * x * x).exp() * sum / std::f64::consts::TAU.sqrt()
}

/// The parameters of the official pretraining model in the narrow golden configuration.
pub fn official_state() -> safetensors::SafeTensors<'static> {
    let bytes = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/pretrain/state_dict.safetensors"
    ));
    safetensors::SafeTensors::deserialize(bytes).unwrap()
}

/// What PyTorch computes for the operations of segmentation.
pub fn segmentation_golden() -> safetensors::SafeTensors<'static> {
    let bytes = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/segmentation/subops.safetensors"
    ));
    safetensors::SafeTensors::deserialize(bytes).unwrap()
}

/// What detectron2 computes: a file of `tests/data/detection`.
pub fn detection_golden(name: &str) -> safetensors::SafeTensors<'static> {
    let bytes: &[u8] = match name {
        "box_ops" => include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/data/detection/box_ops.safetensors"
        )),
        "ops" => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/detection/ops.safetensors"))
        }
        _ => panic!("there is no file {name}"),
    };
    safetensors::SafeTensors::deserialize(bytes).unwrap()
}

/// The values of a golden tensor; those of maps, `[B, C, H, W]`, with their channels last.
#[track_caller]
pub fn golden(tensors: &safetensors::SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
    let is_map = tensor.shape().len() == 4 && !name.ends_with("weight");
    if !is_map {
        return values;
    }
    let (batch, height, width, channels) = golden_shape(tensors, name);
    let positions = height * width;
    (0..batch * positions * channels)
        .map(|index| (index / channels / positions, index / channels % positions, index % channels))
        .map(|(image, position, channel)| values[(image * channels + channel) * positions + position])
        .collect()
}

/// The shape of golden maps as we have them, `[B, H, W, C]`.
#[track_caller]
pub fn golden_shape(tensors: &safetensors::SafeTensors<'_>, name: &str) -> (usize, usize, usize, usize) {
    let [batch, channels, height, width] = *tensors.tensor(name).unwrap().shape() else {
        panic!("{name} is not a batch of maps");
    };
    (batch, height, width, channels)
}

/// Asserts that no value is off by more than `tolerance` times the largest expected magnitude, or 1e-7.
#[track_caller]
pub fn assert_golden(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual - expected).abs();
        assert!(
            error <= (tolerance * largest).max(1e-7),
            "{name}: value {i} is {actual}, expected {expected}, of at most {largest} (off by {error:e})"
        );
    }
}

/// Asserts that what a scope holds is, by names and shapes, what the official model has under `prefix`.
#[track_caller]
pub fn assert_official_params(scope: &Scope, prefix: &str) {
    let state = official_state();
    let mut expected: Vec<(String, Vec<usize>)> = state
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec()))
        .collect();
    let mut params: Vec<(String, Vec<usize>)> =
        scope.params().iter().map(|param| (param.name().to_owned(), param.shape().to_vec())).collect();
    expected.sort();
    params.sort();
    assert_eq!(params, expected);
}
