//! Batch normalisation with its running statistics.

use crate::ops::{self, BatchNormParams};
use crate::tensor::{Result, Tensor};
use crate::{Context, Init, Param, Scope};

/// PyTorch's `BatchNorm1d` of tokens, `BatchNorm2d` of maps: the channels are the last axis.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    params: BatchNormParams,
    batches: Param,
}

impl BatchNorm {
    /// With scale and shift; momentum 0.1. PyTorch's default `eps` is 1e-5.
    pub fn new(scope: &Scope, channels: usize, eps: f32) -> Self {
        let affine =
            (scope.param("weight", &[channels], &Init::ONES), scope.param("bias", &[channels], &Init::ZEROS));
        Self::with_affine(scope, channels, eps, Some(affine))
    }

    /// Without scale and shift (`affine=False`).
    pub fn without_affine(scope: &Scope, channels: usize, eps: f32) -> Self {
        Self::with_affine(scope, channels, eps, None)
    }

    fn with_affine(scope: &Scope, channels: usize, eps: f32, affine: Option<(Param, Param)>) -> Self {
        let params = BatchNormParams {
            affine,
            running_mean: scope.buffer("running_mean", &[channels], &Init::ZEROS),
            running_var: scope.buffer("running_var", &[channels], &Init::ONES),
            momentum: 0.1,
            eps,
        };
        Self { params, batches: scope.buffer("num_batches_tracked", &[], &Init::ZEROS) }
    }

    /// The same shape, `[.., C]`. In training the statistics are those of the batch, and the running ones move.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        let y = ops::batch_norm(x, &self.params, ctx.training, &ctx.tape)?;
        if ctx.training {
            self.batches.update(|batches| batches.iter_mut().for_each(|batches| *batches += 1.0));
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamKind;
    use crate::random::{self, Purpose};
    use crate::tensor::Tensor;

    #[test]
    fn its_names_are_those_of_pytorch_and_training_counts_batches() {
        let scope = Scope::new(0);
        let norm = BatchNorm::new(&scope.child("bn"), 2, 1e-5);
        let names: Vec<String> = scope.params().iter().map(|param| param.name().to_owned()).collect();
        let expected = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
        assert_eq!(names, expected.map(|name| format!("bn.{name}")));
        for ctx in [Context::train, Context::eval] {
            let ctx = ctx(random::stream(Purpose::Step, &[0]));
            let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 4.0], (2, 2), &ctx.tape).unwrap();
            norm.forward(x, &ctx).unwrap();
        }
        assert_eq!((norm.batches.kind(), norm.batches.values().to_vec()), (ParamKind::Buffer, vec![1.0]));
    }
}
