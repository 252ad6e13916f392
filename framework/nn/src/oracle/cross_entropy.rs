//! The cross entropy, composed of dfdx's operations.

use dfdx::shapes::{Axes2, Axis};
use dfdx::tensor_ops::{SumTo as _, TryMul as _};

use super::rows::{T0, constant};
use crate::error::Result;
use crate::ops::{ClassTarget, Criterion};
use crate::tensor::Tensor;

pub fn cross_entropy(
    logits: Tensor,
    targets: &[Option<ClassTarget>],
    criterion: &Criterion,
) -> Result<Tensor> {
    let classes = logits.shape().channels();
    let shape = (targets.len(), classes);
    let logits = logits.typed(shape)?;
    let weight = -1.0 / criterion.divisor(targets) as f32;
    let ones = vec![1.0; classes];
    let class_weight = criterion.class_weight.as_deref().unwrap_or(&ones);
    let mut weights = Vec::with_capacity(targets.len() * classes);
    for target in targets {
        match target {
            Some(target) => {
                let asked = target.probabilities(classes, criterion.smoothing).into_iter().zip(class_weight);
                weights.extend(asked.map(|(share, of_class)| share * of_class * weight));
            }
            None => weights.resize(weights.len() + classes, 0.0),
        }
    }
    let weights = constant(weights, shape)?;
    let loss: T0 = logits.try_log_softmax::<Axis<1>>()?.try_mul(weights)?.try_sum::<_, Axes2<0, 1>>()?;
    Tensor::from_typed(loss)
}
