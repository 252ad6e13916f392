//! Linear layers and attention.

use criterion::BatchSize;

use convmae_nn::cpu::attention::{self, Dims};
use convmae_nn::cpu::{Buffer, Output, linear};

use crate::roofline::Work;
use crate::rows::{GELU, GELU_BACKWARD};
use crate::suite::Suite;
use crate::{BATCH, KEPT, PATCHES, noise};

/// Rows, channels and hidden channels of the MLPs of the first stage, of the third, and of the decoder; then of all stages and the decoder
/// of `recipes/quickstart.yaml`.
const MLPS: [(usize, usize, usize); 7] = [
    (BATCH * KEPT * 16, 256, 1024),
    (BATCH * KEPT, 768, 3072),
    (BATCH * PATCHES, 512, 2048),
    (8192, 32, 128),
    (2048, 64, 256),
    (512, 128, 512),
    (2048, 96, 384),
];

/// Operations of a softmax for each score: largest and sum, difference, `exp`, scaling.
const SOFTMAX: usize = 30;

pub fn linear(suite: &mut Suite) {
    // The 1x1 convolution of the first stage; queries, keys and values of the third and of the decoder.
    for (rows, inputs, outputs) in
        [(BATCH * KEPT * 16, 256, 256), (BATCH * KEPT, 768, 2304), (BATCH * PATCHES, 512, 1536)]
    {
        let layer = Layer::new(rows, inputs, outputs);
        let work = layer.work(0).reads(layer.x.len()).writes(layer.y.len());
        suite.bench("linear forward", &layer.shape(), work, |b| {
            b.iter(|| linear::forward(&layer.x, &layer.weight, Some(&layer.bias), inputs, outputs));
        });
    }
    for (rows, channels, hidden) in MLPS {
        first_of_mlp(suite, &Layer::new(rows, channels, hidden));
        second_of_mlp(suite, &Layer::new(rows, hidden, channels));
    }
}

fn first_of_mlp(suite: &mut Suite, layer: &Layer) {
    let Layer { inputs, outputs, x, weight, bias, y } = layer;
    let work = layer.work(GELU * y.len()).reads(x.len()).writes(2 * y.len());
    suite.bench("linear forward_gelu", &layer.shape(), work, |b| {
        b.iter(|| linear::forward_gelu(x, weight, Some(bias), *inputs, *outputs));
    });
    let work = layer.work(0).reads(y.len()).writes(x.len());
    suite.bench("linear backward_input", &layer.shape(), work, |b| {
        b.iter(|| linear::backward_input(y, weight, *inputs, *outputs));
    });
    let work = layer.work(0).reads(y.len()).reads(x.len());
    let mut sum = vec![0.0; weight.len()];
    suite.bench("linear backward_weight", &layer.shape(), work, |b| {
        b.iter(|| linear::backward_weight(y, x, *inputs, *outputs, &mut sum, Output::Replace));
    });
}

fn second_of_mlp(suite: &mut Suite, layer: &Layer) {
    let Layer { inputs, outputs, x, weight, bias, y } = layer;
    let work = layer.work(0).reads(x.len()).reads(y.len()).writes(y.len());
    suite.bench("linear forward_residual", &layer.shape(), work, |b| {
        b.iter(|| linear::forward_residual(x, weight, Some(bias), *inputs, *outputs, y));
    });
    let work = layer.work(GELU_BACKWARD * x.len()).reads(y.len()).updates(x.len()).writes(x.len());
    suite.bench("linear backward_input_gelu", &layer.shape(), work, |b| {
        b.iter_batched_ref(
            || Buffer::copy(x),
            |hidden| linear::backward_input_gelu(y, weight, *inputs, *outputs, hidden),
            BatchSize::PerIteration,
        );
    });
}

/// A linear layer with what goes in and what comes out, which is the output or its gradient.
struct Layer {
    inputs: usize,
    outputs: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    y: Vec<f32>,
}

impl Layer {
    fn new(rows: usize, inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            x: noise(1, rows * inputs),
            weight: noise(2, outputs * inputs),
            bias: noise(3, outputs),
            y: noise(4, rows * outputs),
        }
    }

    fn shape(&self) -> String {
        format!("{}x{} to {}", self.x.len() / self.inputs, self.inputs, self.outputs)
    }

    /// Of one product, and the weight or its gradient.
    fn work(&self, other_flops: usize) -> Work {
        Work::flops(2 * self.x.len() * self.outputs + other_flops).reads(self.weight.len())
    }
}

/// The decoder, the third stage, and the third stage without a mask.
pub fn attention(suite: &mut Suite) {
    for (tokens, heads, head_dim) in [(PATCHES, 16, 32), (KEPT, 12, 64), (PATCHES, 12, 64)] {
        let dims = Dims { batch: BATCH, queries: tokens, keys: tokens, heads, head_dim };
        let shape = format!("{BATCH}x{tokens} {heads} heads of {head_dim}");
        let values = BATCH * tokens * dims.dim();
        let scores = BATCH * heads * tokens * tokens;
        let (qkv, grad) = (noise(1, 3 * values), noise(2, values));
        // Two products.
        let work = Work::flops(scores * (2 * 2 * head_dim + SOFTMAX)).reads(3 * values).writes(values);
        suite.bench("attention forward", &shape, work, |b| {
            b.iter(|| attention::forward(&qkv, None, dims));
        });
        // Five: the scores again, and the gradients of probabilities, values, queries and keys.
        let work = Work::flops(scores * (5 * 2 * head_dim + SOFTMAX)).reads(4 * values).writes(3 * values);
        let (output, normalisers) = attention::forward(&qkv, None, dims).unwrap();
        suite.bench("attention backward", &shape, work, |b| {
            b.iter(|| attention::backward(&grad, &output, &qkv, None, &normalisers, dims));
        });
    }
}
