//! The cross entropy, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor_ops::{SumTo as _, TryMul as _};

use super::rows::{T0, constant};
use crate::error::Result;
use crate::ops::ClassTarget;
use crate::tensor::Tensor;

pub fn cross_entropy(logits: Tensor, targets: &[Option<ClassTarget>], smoothing: f32) -> Result<Tensor> {
    let classes = logits.shape().channels();
    let shape = (targets.len(), classes);
    let logits = logits.typed(shape)?;
    let weight = -1.0 / targets.iter().flatten().count().max(1) as f32;
    let mut weights = Vec::with_capacity(targets.len() * classes);
    for target in targets {
        match target {
            Some(target) => weights
                .extend(target.probabilities(classes, smoothing).into_iter().map(|share| share * weight)),
            None => weights.resize(weights.len() + classes, 0.0),
        }
    }
    let weights = constant(weights, shape)?;
    let loss: T0 = logits.try_log_softmax::<Axis<1>>()?.try_mul(weights)?.try_sum::<_, Axes2<0, 1>>()?;
    Tensor::from_typed(loss)
}
