//! Rectified linear units.

use rayon::prelude::*;

use super::Buffer;
use super::elementwise::{self, CHUNK};
use super::simd::vectorized;
use crate::Result;
use crate::profile;

/// `max(x, 0)`; what is not a number stays so.
pub fn forward(x: &[f32]) -> Result<Buffer> {
    let _span = profile::kernel("relu");
    Ok(elementwise::map(x, |x| if x <= 0.0 { 0.0 } else { x }))
}

/// Replaces the gradient of the output by that of the input: none where `x <= 0`, as in PyTorch.
pub fn backward(grad: &mut [f32], x: &[f32]) -> Result<()> {
    let _span = profile::kernel("relu gradient");
    assert_eq!(grad.len(), x.len());
    grad.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(grad, x)| {
        vectorized(|| {
            for (grad, &x) in grad.iter_mut().zip(x) {
                *grad = if x <= 0.0 { 0.0 } else { *grad };
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_positive_becomes_zero_and_gets_no_gradient() {
        let x = [1.5, 0.0, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let y = forward(&x).unwrap();
        assert_eq!(y[..5], [1.5, 0.0, 0.0, f32::INFINITY, 0.0]);
        assert!(y[5].is_nan());
        let mut grad = [3.0; 5];
        backward(&mut grad, &x[..5]).unwrap();
        assert_eq!(grad, [3.0, 0.0, 0.0, 3.0, 0.0]);
    }
}
