//! One step of LARS (You, Gitman and Ginsburg) over all parameters.

use rayon::prelude::*;

use super::Values;
use super::chunks::norm_squared;
use super::elementwise::CHUNK;
use super::step_end::GradScale;
use crate::Result;

/// What a step of LARS needs besides the tensors.
#[derive(Debug, Clone, Copy)]
pub struct LarsStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Share of the previous direction that is kept.
    pub momentum: f32,
    /// Added to the gradient, times the values.
    pub weight_decay: f32,
    /// The norm of a scaled gradient, as a fraction of that of its tensor; `None` where it is not scaled.
    pub trust_coefficient: Option<f64>,
}

/// A parameter and its direction, of equal length.
pub type LarsTensor<'a> = LarsOperands<'a, Values>;

/// [`LarsTensor`] for values of any device.
pub struct LarsOperands<'a, V: ?Sized> {
    /// The parameter's values.
    pub values: &'a mut V,
    /// Its gradient.
    pub grad: &'a V,
    /// Where the last step went.
    pub mu: &'a mut V,
    /// How it is stepped.
    pub at: LarsStep,
}

/// Updates the values and the directions of all tensors, as `util/lars.py` of the official code.
pub fn lars(tensors: Vec<LarsTensor<'_>>, scale: &GradScale) -> Result<()> {
    let Some(scale) = scale.factor()? else { return Ok(()) };
    tensors.into_iter().try_for_each(|tensor| step(tensor, scale))
}

fn step(LarsTensor { values, grad, mu, at }: LarsTensor<'_>, scale: f32) -> Result<()> {
    let LarsStep { lr, momentum, weight_decay, trust_coefficient } = at;
    assert_eq!([grad.len(), mu.len()], [values.len(); 2]);
    let decayed = |value: f32, grad: f32| scale * grad + weight_decay * value;
    let factor = match trust_coefficient {
        Some(coefficient) => trust(values, grad, decayed, coefficient)?,
        None => 1.0,
    };
    let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    chunks.zip(mu.par_chunks_mut(CHUNK)).for_each(|((values, grads), mu)| {
        for ((value, grad), mu) in values.iter_mut().zip(grads).zip(mu) {
            *mu = momentum * *mu + factor * decayed(*value, *grad);
            *value -= lr * *mu;
        }
    });
    Ok(())
}

/// What the decayed gradient is multiplied by; 1 where it or the tensor is zero.
fn trust(
    values: &[f32],
    grad: &[f32],
    decayed: impl Fn(f32, f32) -> f32 + Sync,
    coefficient: f64,
) -> Result<f32> {
    let norm = norm_squared(&[values])?.sqrt();
    let decayed = norm_of_decayed(values, grad, decayed);
    Ok(if norm > 0.0 && decayed > 0.0 { (coefficient * norm / decayed) as f32 } else { 1.0 })
}

/// The norm of the decayed gradient: sums of chunks, added in order.
fn norm_of_decayed(values: &[f32], grad: &[f32], decayed: impl Fn(f32, f32) -> f32 + Sync) -> f64 {
    let chunks = values.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks
        .map(|(values, grads)| {
            let decayed = values.iter().zip(grads).map(|(value, grad)| f64::from(decayed(*value, *grad)));
            decayed.map(|value| value * value).sum()
        })
        .collect();
    sums.iter().sum::<f64>().sqrt()
}
