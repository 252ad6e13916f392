//! Losses of single values against targets, in double precision.

use rayon::prelude::*;

use super::Buffer;
use super::chunks::sum_chunks;
use super::elementwise::CHUNK;
use crate::Result;

/// How a value is compared with its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PointwiseLoss {
    /// Of a logit and a probability: `-t ln(p) - (1 - t) ln(1 - p)`.
    BinaryCrossEntropy,
    /// `|x - t|`, rounded off where it is less than `beta`.
    SmoothL1 {
        /// Where the parabola ends; 0 for none.
        beta: f32,
    },
}

/// What a value is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueTarget {
    /// Index of the value.
    pub index: usize,
    /// What it is to be.
    pub target: f32,
}

impl PointwiseLoss {
    fn value(self, x: f64, target: f64) -> f64 {
        match self {
            Self::BinaryCrossEntropy => x.max(0.0) - x * target + (-x.abs()).exp().ln_1p(),
            Self::SmoothL1 { beta } => {
                let (distance, beta) = ((x - target).abs(), f64::from(beta));
                if distance < beta { 0.5 * distance * distance / beta } else { distance - 0.5 * beta }
            }
        }
    }

    fn derivative(self, x: f64, target: f64) -> f64 {
        match self {
            Self::BinaryCrossEntropy => 1.0 / (1.0 + (-x).exp()) - target,
            Self::SmoothL1 { beta } => {
                let (difference, beta) = (x - target, f64::from(beta));
                match difference.abs() {
                    distance if distance < beta => difference / beta,
                    0.0 => 0.0,
                    _ => difference.signum(),
                }
            }
        }
    }
}

/// The sum of the losses of the values that have a target, over `normalizer`, `[1]`.
pub fn forward(loss: PointwiseLoss, x: &[f32], targets: &[ValueTarget], normalizer: f32) -> Result<Buffer> {
    let sum = sum_chunks(targets.len(), 1, |range, sum: &mut [f64]| {
        for &ValueTarget { index, target } in &targets[range] {
            sum[0] += loss.value(x[index].into(), target.into());
        }
    });
    Ok(vec![(sum[0] / f64::from(normalizer)) as f32].into())
}

/// The gradient of [`forward`] with respect to `x`, times `grad`, `[1]`. The targets are sorted by their indices, which differ.
pub fn backward(
    loss: PointwiseLoss,
    x: &[f32],
    targets: &[ValueTarget],
    normalizer: f32,
    grad: &[f32],
) -> Result<Buffer> {
    let scale = f64::from(grad[0]) / f64::from(normalizer);
    let mut grad_x = Buffer::zeros(x.len());
    grad_x.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, grad_x)| {
        let at = |start: usize| targets.partition_point(|target| target.index < start);
        let start = chunk * CHUNK;
        for &ValueTarget { index, target } in &targets[at(start)..at(start + CHUNK)] {
            grad_x[index - start] = (loss.derivative(x[index].into(), target.into()) * scale) as f32;
        }
    });
    Ok(grad_x)
}
