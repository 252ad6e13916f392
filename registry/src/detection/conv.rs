//! The convolution of necks and heads (`detectron2.layers.Conv2d`).

use convmae_framework::nn::layers::{BatchNorm, Conv2d, LayerNorm, Window};
use convmae_framework::nn::ops::{Relu, Sequential};
use convmae_framework::nn::{Context, Init, Result, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What normalises the outputs of a convolution (`detectron2.layers.get_norm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Nothing; the convolution has a bias.
    #[default]
    None,
    /// `BatchNorm`: each channel by its statistics, eps 1e-5 (`BN`, and with `sync` `SyncBN`).
    Batch,
    /// `LayerNorm`: each position by the statistics of its channels, eps 1e-6 (`LN`).
    Layer,
}

/// A convolution of odd kernel that keeps the size of maps, with a norm (`norm`) in place of its bias and a
/// `ReLU` behind, if it has them.
#[derive(Debug, Clone)]
pub struct NormConv2d {
    conv: Conv2d,
    norm: Option<NormLayer>,
    relu: bool,
}

#[derive(Debug, Clone)]
enum NormLayer {
    Batch(BatchNorm),
    Layer(LayerNorm),
}

impl NormConv2d {
    /// Without `ReLU`; the bias of one without a norm starts at zero.
    pub fn new(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        norm: Norm,
        weight: &Init,
    ) -> Self {
        let bias = (norm == Norm::None).then_some(&Init::ZEROS);
        let conv = Conv2d::with_init(scope, inputs, outputs, kernel, Window::same(kernel), weight, bias);
        let scope = scope.child("norm");
        let norm = match norm {
            Norm::None => None,
            Norm::Batch => Some(NormLayer::Batch(BatchNorm::new(&scope, outputs, 1e-5))),
            Norm::Layer => Some(NormLayer::Layer(LayerNorm::new(&scope, outputs, 1e-6))),
        };
        Self { conv, norm, relu: false }
    }

    /// With a `ReLU` behind the norm.
    #[must_use]
    pub fn relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// With the statistics of all processes that train together, if `sync` ([`BatchNorm::sync`]) and the norm has such.
    #[must_use]
    pub fn sync(self, sync: bool) -> Self {
        let sync_norm = |norm| match norm {
            NormLayer::Batch(norm) => NormLayer::Batch(norm.sync(sync)),
            norm @ NormLayer::Layer(_) => norm,
        };
        Self { norm: self.norm.map(sync_norm), ..self }
    }

    /// Whether other processes wait for this one here, so that it has to come by without maps, too.
    pub fn is_shared(&self) -> bool {
        matches!(&self.norm, Some(NormLayer::Batch(norm)) if norm.is_shared())
    }

    /// Its layers, on maps `[B, H, W, I]`: `[B, H, W, O]`.
    pub fn layers(&self) -> Sequential {
        let layers = Sequential::new().then(self.conv.clone());
        let layers = match &self.norm {
            None => layers,
            Some(NormLayer::Batch(norm)) => layers.then(norm.clone()),
            Some(NormLayer::Layer(norm)) => layers.then(norm.clone()),
        };
        if self.relu { layers.then(Relu) } else { layers }
    }

    /// `[B, H, W, I]` to `[B, H, W, O]`.
    ///
    /// # Errors
    /// If the channels do not fit, or the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        self.layers().forward(x, ctx)
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.conv.macs(positions)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::nn::Param;
    use convmae_framework::nn::random::{Purpose, stream};

    use super::*;

    /// Of one channel to two, weights 1 and -1.
    fn outputs(norm: Norm, relu: bool) -> Vec<f32> {
        let conv = NormConv2d::new(&Scope::new(0), 1, 2, 1, norm, &Init::Values(vec![1.0, -1.0]));
        let ctx = Context::eval(stream(Purpose::Evaluate, &[0]));
        let x = Tensor::from_vec(vec![3.0, -2.0], (1, 1, 2, 1), &ctx.tape).unwrap();
        let conv = if relu { conv.relu() } else { conv };
        conv.forward(x, &ctx).unwrap().to_vec().unwrap()
    }

    #[test]
    fn norm_and_relu_follow_the_convolution() {
        assert_eq!(outputs(Norm::None, false), [3.0, -3.0, -2.0, 2.0]);
        assert_eq!(outputs(Norm::None, true), [3.0, 0.0, 0.0, 2.0]);
        let [first, second, ..] = outputs(Norm::Layer, false)[..] else { unreachable!() };
        assert!((first - 1.0).abs() < 1e-6 && (second + 1.0).abs() < 1e-6);
        // Running statistics of mean 0 and variance 1.
        assert!((outputs(Norm::Batch, true)[0] - 3.0).abs() < 1e-4);
    }

    #[test]
    fn a_norm_takes_the_place_of_the_bias_under_the_names_of_detectron2() {
        let names = |norm| {
            let scope = Scope::describe();
            let conv = NormConv2d::new(&scope.child("conv1"), 3, 4, 3, norm, &Init::ZEROS);
            assert_eq!(conv.macs(10), 10 * 4 * 3 * 9);
            scope.params().iter().map(Param::name).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(Norm::None), ["conv1.weight", "conv1.bias"]);
        assert_eq!(names(Norm::Layer), ["conv1.weight", "conv1.norm.weight", "conv1.norm.bias"]);
        assert!(names(Norm::Batch).contains(&"conv1.norm.running_var".to_owned()));
    }
}
