//! The end of a step: the norm of the gradient, what clips it, and whether there is an update at all.

use super::Values;
use super::chunks::norm_squared;
use crate::Result;

/// Whether the host reads what a step came to when the next one is under way. Here it is known at once.
pub const IS_LATE: bool = false;

/// What an update makes of the gradients: `grad_scale` and `found_inf` of PyTorch's fused optimizers.
#[derive(Debug)]
pub struct GradScale {
    factor: f32,
    found_inf: bool,
}

impl GradScale {
    /// Gradients as they are.
    pub fn one() -> Result<Self> {
        Ok(Self { factor: 1.0, found_inf: false })
    }

    /// What gradients are multiplied by; none where a loss or the norm is not finite, and nothing is to be updated.
    pub fn factor(&self) -> Result<Option<f32>> {
        Ok((!self.found_inf).then_some(self.factor))
    }
}

/// Where steps end.
#[derive(Debug)]
pub struct StepEnd {
    scale: GradScale,
}

/// What a step came to, as the host reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The losses, in the order in which they were given.
    pub losses: Vec<f32>,
    /// The L2 norm of all gradients together, before clipping.
    pub grad_norm: f64,
}

/// [`Figures`] on their way.
#[derive(Debug)]
pub struct Readback(Figures);

impl StepEnd {
    /// Before the first step.
    pub fn new() -> Result<Self> {
        Ok(Self { scale: GradScale::one()? })
    }

    /// What optimizers take, of the last step that was ended.
    pub fn scale(&self) -> &GradScale {
        &self.scale
    }

    /// Ends a step: takes the norm of all gradients together, summed in double precision and in an order that the number of threads
    /// does not change, and what scales it down to `max_norm`, as `torch.nn.utils.clip_grad_norm_`. Losses have one value each.
    pub fn finish(
        &mut self,
        grads: &[&Values],
        losses: &[&Values],
        max_norm: Option<f64>,
    ) -> Result<Readback> {
        let grad_norm = norm_squared(grads)?.sqrt();
        let losses: Vec<f32> = losses.iter().map(|loss| loss[0]).collect();
        let factor = max_norm.map(|max_norm| max_norm / (grad_norm + 1e-6));
        self.scale = GradScale {
            factor: factor.filter(|&factor| factor < 1.0).map_or(1.0, |factor| factor as f32),
            found_inf: !grad_norm.is_finite() || losses.iter().any(|loss| !loss.is_finite()),
        };
        Ok(Readback(Figures { losses, grad_norm }))
    }

    /// What a step came to.
    pub fn read(&mut self, readback: Readback) -> Result<Figures> {
        Ok(readback.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, on_threads};

    /// The norm, and what gradients are multiplied by.
    fn finish(grads: &[&[f32]], losses: &[&[f32]], max_norm: Option<f64>) -> (f64, Option<f32>) {
        let mut end = StepEnd::new().unwrap();
        let readback = end.finish(grads, losses, max_norm).unwrap();
        (end.read(readback).unwrap().grad_norm, end.scale().factor().unwrap())
    }

    #[test]
    fn the_norm_is_over_all_parameters_and_scaled_down_but_never_up() {
        let grads: [&[f32]; 2] = [&[3.0], &[4.0]];
        for (max_norm, factor) in [(None, 1.0), (Some(10.0), 1.0), (Some(1.0), 0.2)] {
            let (norm, scale) = finish(&grads, &[&[1.0]], max_norm);
            assert!((norm - 5.0).abs() < 1e-12 && (scale.unwrap() - factor).abs() < 1e-6, "{norm} {scale:?}");
        }
    }

    #[test]
    fn the_norm_does_not_depend_on_the_number_of_threads() {
        // More than one thread takes at once.
        let grad = noise(1, (3 << 16) + 5);
        let norm_on = |threads| on_threads(threads, || finish(&[&grad], &[], None).0.to_bits());
        assert_eq!(norm_on(1), norm_on(3));
    }

    #[test]
    fn what_is_not_finite_is_no_update() {
        for (grad, loss) in [(f32::NAN, 1.0), (f32::INFINITY, 1.0), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
            assert_eq!(finish(&[&[1.0, grad]], &[&[loss]], Some(1.0)).1, None);
        }
    }
}
