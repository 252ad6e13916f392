//! The unit of the heads of segmentation.

use super::{BatchNorm, Conv2d, Window};
use crate::error::Result;
use crate::ops::{Relu, Sequential};
use crate::tensor::Tensor;
use crate::{Context, Init, Scope};

/// A convolution without bias (`conv`), batch normalisation (`bn`, eps 1e-5, momentum 0.1) and `ReLU`: mmcv's `ConvModule`.
#[derive(Debug, Clone)]
pub struct ConvModule {
    conv: Conv2d,
    bn: BatchNorm,
}

impl ConvModule {
    /// With a kernel of odd side that keeps the size of the map, stride 1; initialised as in mmcv, which is `kaiming_normal_` of the
    /// fan out for `ReLU`.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, kernel: usize) -> Self {
        let (init, window) = (Init::kaiming_normal(outputs * kernel * kernel), Window::same(kernel));
        Self {
            conv: Conv2d::with_init(&scope.child("conv"), inputs, outputs, kernel, window, &init, None),
            bn: BatchNorm::new(&scope.child("bn"), outputs, 1e-5),
        }
    }

    /// With the statistics of all processes that train together, if `sync` ([`BatchNorm::sync`]).
    #[must_use]
    pub fn sync(self, sync: bool) -> Self {
        Self { bn: self.bn.sync(sync), ..self }
    }

    /// `[B, H, W, I]` to `[B, H, W, O]`.
    ///
    /// # Errors
    /// If the channels do not fit, or in training with a single position in the whole batch, whose variance says nothing.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        let layers = Sequential::new().then(self.conv.clone()).then(self.bn.clone()).then(Relu);
        layers.forward(x, ctx)
    }

    /// Multiply-accumulates for that many positions.
    pub fn macs(&self, positions: usize) -> u64 {
        self.conv.macs(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Param;
    use crate::ops::Gelu;
    use crate::testing::{assert_golden, context, golden, golden_shape, run_against, segmentation_golden};

    type Module = Box<dyn Fn(Tensor, &Context) -> Result<Tensor>>;

    /// Compares outputs, gradients and running statistics in both modes with those of PyTorch.
    fn compare(case: &str, train_tolerances: [f32; 2], build: impl Fn(&Scope) -> Module) {
        let tensors = segmentation_golden();
        let value = |name: &str| golden(&tensors, &format!("{case}.{name}"));
        for (mode, [forward, backward]) in [("eval", [2e-6, 2e-5]), ("train", train_tolerances)] {
            let scope = Scope::new(0);
            let module = build(&scope);
            let mut params = scope.params();
            params.retain(|param| !param.name().ends_with("num_batches_tracked"));
            for param in &params {
                param.set(&value(&format!("param.{}", param.name()))).unwrap();
            }
            let (buffers, trained): (Vec<Param>, Vec<Param>) =
                params.into_iter().partition(|param| !param.requires_grad());
            let shape = golden_shape(&tensors, &format!("{case}.x"));
            let grad = value(&format!("{mode}.gy"));
            let trained: Vec<&Param> = trained.iter().collect();
            let outcome =
                run_against(&value("x"), shape, &trained, |_| grad, |x| module(x, &context(mode == "train")));
            let assert = |name: &str, actual: &[f32], tolerance| {
                assert_golden(&format!("{case}.{name}"), actual, &value(name), tolerance);
            };
            assert(&format!("{mode}.y"), &outcome.values, forward);
            assert(&format!("{mode}.gx"), &outcome.grads[0], backward);
            for (param, grad) in trained.iter().zip(&outcome.grads[1..]) {
                if mode == "train" && param.name() == "0.bias" {
                    // The mean that is taken off contains it: its gradient is rounding noise.
                    assert!(grad.iter().all(|grad| grad.abs() < 1e-5), "{case}: {grad:?}");
                    continue;
                }
                assert(&format!("{mode}.grad.{}", param.name()), grad, backward);
            }
            for buffer in buffers {
                let when = if mode == "train" { "after_train" } else { "param" };
                assert(&format!("{when}.{}", buffer.name()), &buffer.to_vec().unwrap(), forward);
            }
        }
    }

    #[test]
    fn it_is_what_mmcv_computes() {
        let module = |inputs, outputs, kernel| {
            move |scope: &Scope| -> Module {
                let module = ConvModule::new(scope, inputs, outputs, kernel);
                Box::new(move |x, ctx| module.forward(x, ctx))
            }
        };
        compare("convmodule_3x3", [2e-6, 2e-5], module(5, 4, 3));
        compare("convmodule_1x1", [2e-6, 2e-5], module(5, 4, 1));
        // Statistics of two values.
        compare("convmodule_1x1_on_1x1_map", [1e-3; 2], module(5, 4, 1));
    }

    #[test]
    fn with_stride_bias_and_gelu_its_parts_are_the_last_feature_of_the_official_backbone() {
        let fpn = |channels| {
            move |scope: &Scope| -> Module {
                let window = Window { stride: 2, ..Window::default() };
                let conv = Conv2d::new(&scope.child(0), channels, channels, 3, window);
                let bn = BatchNorm::new(&scope.child(1), channels, 1e-5);
                Box::new(move |x, ctx| {
                    Sequential::new().then(conv.clone()).then(bn.clone()).then(Gelu).forward(x, ctx)
                })
            }
        };
        compare("fpn_8x8", [2e-6, 2e-5], fpn(6));
        compare("fpn_32x32", [2e-6, 2e-5], fpn(4));
    }

    #[test]
    fn its_names_and_its_initialisation_are_those_of_mmcv() {
        let scope = Scope::new(0);
        let module = ConvModule::new(&scope.child("bottleneck"), 20, 50, 3);
        let params = scope.params();
        let names: Vec<_> = params.iter().map(Param::name).collect();
        let expected = [
            "conv.weight",
            "bn.weight",
            "bn.bias",
            "bn.running_mean",
            "bn.running_var",
            "bn.num_batches_tracked",
        ];
        assert_eq!(names, expected.map(|name| format!("bottleneck.{name}")));
        let weight = params[0].to_vec().unwrap();
        let square = weight.iter().map(|value| f64::from(value * value)).sum::<f64>() / weight.len() as f64;
        assert!((square * 50.0 * 9.0 / 2.0 - 1.0).abs() < 0.05, "the variance is {square}");
        assert_eq!(
            (&*params[1].to_vec().unwrap(), &*params[2].to_vec().unwrap()),
            (&[1.0; 50][..], &[0.0; 50][..])
        );
        assert_eq!(module.macs(7), 7 * 20 * 50 * 9);
    }
}
