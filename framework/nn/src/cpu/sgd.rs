//! A step of stochastic gradient descent.

use rayon::prelude::*;

use super::elementwise::CHUNK;
use crate::Result;

/// What a step of SGD needs besides the tensors.
#[derive(Debug, Clone, Copy)]
pub struct SgdStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Share of the previous direction that is kept.
    pub momentum: f32,
    /// Share of the gradient that enters the direction.
    pub enters: f32,
    /// Whether the gradient is added once more to the direction (Nesterov's momentum).
    pub nesterov: bool,
    /// Added to the gradient, times the values.
    pub weight_decay: f32,
}

/// Updates the values of one parameter, and its direction if there is momentum, in the order of operations of `torch.optim.SGD`.
pub fn sgd(values: &mut [f32], grad: &[f32], direction: Option<&mut [f32]>, at: SgdStep) -> Result<()> {
    let SgdStep { lr, momentum, enters, nesterov, weight_decay } = at;
    assert_eq!(values.len(), grad.len());
    let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let Some(direction) = direction else {
        chunks.for_each(|(values, grads)| {
            for (value, grad) in values.iter_mut().zip(grads) {
                *value -= lr * (grad + weight_decay * *value);
            }
        });
        return Ok(());
    };
    chunks.zip(direction.par_chunks_mut(CHUNK)).for_each(|((values, grads), directions)| {
        for ((value, grad), direction) in values.iter_mut().zip(grads).zip(directions) {
            let grad = grad + weight_decay * *value;
            *direction = momentum * *direction + enters * grad;
            *value -= lr * if nesterov { grad + momentum * *direction } else { *direction };
        }
    });
    Ok(())
}
