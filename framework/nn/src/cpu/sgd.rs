//! One step of stochastic gradient descent over all parameters.

use rayon::prelude::*;

use super::Values;
use super::elementwise::CHUNK;
use super::step_end::GradScale;
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

/// A parameter and its direction, of equal length.
pub type SgdTensor<'a> = SgdOperands<'a, Values>;

/// [`SgdTensor`] for values of any device.
pub struct SgdOperands<'a, V: ?Sized> {
    /// The parameter's values.
    pub values: &'a mut V,
    /// Its gradient.
    pub grad: &'a V,
    /// Where the last step went, if there is momentum.
    pub direction: Option<&'a mut V>,
    /// How it is stepped.
    pub at: SgdStep,
}

/// Updates the values of all tensors, and the directions of those that have momentum, in the order of operations of
/// `torch.optim.SGD`.
pub fn sgd(tensors: Vec<SgdTensor<'_>>, scale: &GradScale) -> Result<()> {
    let Some(scale) = scale.factor()? else { return Ok(()) };
    tensors.into_iter().for_each(|tensor| step(tensor, scale));
    Ok(())
}

fn step(SgdTensor { values, grad, direction, at }: SgdTensor<'_>, scale: f32) {
    let SgdStep { lr, momentum, enters, nesterov, weight_decay } = at;
    assert_eq!(values.len(), grad.len());
    let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let Some(direction) = direction else {
        chunks.for_each(|(values, grads)| {
            for (value, grad) in values.iter_mut().zip(grads) {
                *value -= lr * (scale * grad + weight_decay * *value);
            }
        });
        return;
    };
    chunks.zip(direction.par_chunks_mut(CHUNK)).for_each(|((values, grads), directions)| {
        for ((value, grad), direction) in values.iter_mut().zip(grads).zip(directions) {
            let grad = scale * grad + weight_decay * *value;
            *direction = momentum * *direction + enters * grad;
            *value -= lr * if nesterov { grad + momentum * *direction } else { *direction };
        }
    });
}
