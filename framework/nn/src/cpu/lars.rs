//! A step of LARS (You, Gitman and Ginsburg).

use rayon::prelude::*;

use super::chunks::norm_squared;
use super::elementwise::CHUNK;
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

/// Updates the values and the direction `mu` of one parameter, as `util/lars.py` of the official code.
pub fn lars(values: &mut [f32], grad: &[f32], mu: &mut [f32], at: LarsStep) -> Result<()> {
    let LarsStep { lr, momentum, weight_decay, trust_coefficient } = at;
    assert_eq!([grad.len(), mu.len()], [values.len(); 2]);
    let scale = match trust_coefficient {
        Some(coefficient) => trust(values, grad, weight_decay, coefficient)?,
        None => 1.0,
    };
    let chunks = values.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    chunks.zip(mu.par_chunks_mut(CHUNK)).for_each(|((values, grads), mu)| {
        for ((value, grad), mu) in values.iter_mut().zip(grads).zip(mu) {
            *mu = momentum * *mu + scale * (grad + weight_decay * *value);
            *value -= lr * *mu;
        }
    });
    Ok(())
}

/// What the decayed gradient is multiplied by; 1 where it or the tensor is zero.
fn trust(values: &[f32], grad: &[f32], weight_decay: f32, coefficient: f64) -> Result<f32> {
    let norm = norm_squared(&[values])?.sqrt();
    let decayed = norm_of_decayed(values, grad, weight_decay);
    Ok(if norm > 0.0 && decayed > 0.0 { (coefficient * norm / decayed) as f32 } else { 1.0 })
}

/// The norm of `grad + weight_decay * values`: sums of chunks, added in order.
fn norm_of_decayed(values: &[f32], grad: &[f32], weight_decay: f32) -> f64 {
    let chunks = values.par_chunks(CHUNK).zip(grad.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks
        .map(|(values, grads)| {
            let decayed =
                values.iter().zip(grads).map(|(value, grad)| f64::from(grad + weight_decay * value));
            decayed.map(|value| value * value).sum()
        })
        .collect();
    sums.iter().sum::<f64>().sqrt()
}
