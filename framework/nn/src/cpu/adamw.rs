//! One step of `AdamW` over all parameters, in one pass.

use rayon::prelude::*;

use super::Values;
use super::elementwise::CHUNK;
use super::simd::multiversion;
use super::step_end::GradScale;
use crate::Result;

/// What a step of `AdamW` needs besides the tensors.
#[derive(Debug, Clone, Copy)]
pub struct AdamwStep {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The step's number, from 1: for the bias correction.
    pub step: u64,
}

/// A parameter and its moments, all of equal length.
pub type AdamwTensor<'a> = AdamwOperands<'a, Values>;

/// [`AdamwTensor`] for values of any device.
pub struct AdamwOperands<'a, V: ?Sized> {
    /// The parameter's values.
    pub values: &'a mut V,
    /// Its gradient.
    pub grad: &'a V,
    /// First moment.
    pub exp_avg: &'a mut V,
    /// Second moment.
    pub exp_avg_sq: &'a mut V,
    /// How it is stepped.
    pub at: AdamwStep,
}

/// Updates the values and moments of all tensors in one parallel pass, in the order of operations of `torch.optim.AdamW`: decay,
/// moments, bias-corrected step.
pub fn adamw(tensors: Vec<AdamwTensor<'_>>, scale: &GradScale) -> Result<()> {
    let Some(scale) = scale.factor()? else { return Ok(()) };
    let chunks: Vec<_> = tensors.into_iter().flat_map(AdamwTensor::chunks).collect();
    chunks.into_par_iter().for_each(|Chunk { values, grad, exp_avg, exp_avg_sq, factors }| {
        adamw_chunk(values, grad, exp_avg, exp_avg_sq, scale, factors);
    });
    Ok(())
}

/// A part of a tensor that one thread takes.
struct Chunk<'a> {
    values: &'a mut [f32],
    grad: &'a [f32],
    exp_avg: &'a mut [f32],
    exp_avg_sq: &'a mut [f32],
    factors: Factors,
}

impl<'a> AdamwTensor<'a> {
    fn chunks(self) -> impl Iterator<Item = Chunk<'a>> {
        let lengths = [self.grad.len(), self.exp_avg.len(), self.exp_avg_sq.len()];
        assert_eq!(lengths, [self.values.len(); 3]);
        let factors = Factors::new(self.at);
        let values = self.values.chunks_mut(CHUNK).zip(self.grad.chunks(CHUNK));
        let moments = self.exp_avg.chunks_mut(CHUNK).zip(self.exp_avg_sq.chunks_mut(CHUNK));
        values.zip(moments).map(move |((values, grad), (exp_avg, exp_avg_sq))| Chunk {
            values,
            grad,
            exp_avg,
            exp_avg_sq,
            factors,
        })
    }
}

/// What [`AdamwStep`] comes to for a single value.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Factors {
    /// What the weight decay leaves of a value.
    keep: f32,
    /// The learning rate over the bias correction of the first moment.
    step_size: f32,
    /// The root of the bias correction of the second moment.
    correction: f32,
    eps: f32,
    betas: [f32; 2],
    /// `1 - betas`, subtracted in double precision.
    rests: [f32; 2],
}

impl Factors {
    /// Those of a step.
    pub fn new(at: AdamwStep) -> Self {
        let [beta1, beta2] = at.betas;
        Self {
            keep: (1.0 - at.lr * at.weight_decay) as f32,
            step_size: (at.lr / (1.0 - beta1.powf(at.step as f64))) as f32,
            correction: (1.0 - beta2.powf(at.step as f64)).sqrt() as f32,
            eps: at.eps as f32,
            betas: [beta1 as f32, beta2 as f32],
            rests: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
        }
    }
}

multiversion! {
    fn adamw_chunk(
        values: &mut [f32],
        grad: &[f32],
        exp_avg: &mut [f32],
        exp_avg_sq: &mut [f32],
        scale: f32,
        factors: Factors,
    ) {
        let Factors { keep, step_size, correction, eps, betas: [beta1, beta2], rests: [rest1, rest2] } = factors;
        for (((value, &grad), m), v) in values.iter_mut().zip(grad).zip(exp_avg).zip(exp_avg_sq) {
            let grad = scale * grad;
            *value *= keep;
            *m = beta1 * *m + rest1 * grad;
            *v = beta2 * *v + rest2 * grad * grad;
            *value -= step_size * *m / (v.sqrt() / correction + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equivalent PyTorch: `AdamW([p], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.5)`, two steps by hand in f64.
    #[test]
    fn two_steps_equal_the_textbook_in_double_precision() {
        let (mut p, mut m, mut v) = ([1.0f32, -2.0], [0.0f32; 2], [0.0f32; 2]);
        let (mut p64, mut m64, mut v64) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
        for (step, grad) in [(1, [0.5f32, -0.25]), (2, [-1.0, 3.0])] {
            let at = AdamwStep { lr: 0.1, betas: [0.9, 0.99], eps: 1e-8, weight_decay: 0.5, step };
            let tensor = AdamwTensor { values: &mut p, grad: &grad, exp_avg: &mut m, exp_avg_sq: &mut v, at };
            adamw(vec![tensor], &GradScale::one().unwrap()).unwrap();
            for i in 0..2 {
                let g = f64::from(grad[i]);
                p64[i] -= 0.1 * 0.5 * p64[i];
                m64[i] = 0.9 * m64[i] + 0.1 * g;
                v64[i] = 0.99 * v64[i] + 0.01 * g * g;
                let t = step as i32;
                p64[i] -= 0.1 * (m64[i] / (1.0 - 0.9f64.powi(t)))
                    / ((v64[i] / (1.0 - 0.99f64.powi(t))).sqrt() + 1e-8);
            }
        }
        for i in 0..2 {
            assert!((f64::from(p[i]) - p64[i]).abs() < 1e-6, "{p:?} {p64:?}");
        }
    }
}
