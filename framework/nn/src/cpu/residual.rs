//! What a residual connection adds to its input: a branch, by channel and by sample times a factor.

use super::elementwise::{add_assign, scale_channels, scale_parts};
use super::{Buffer, copy};
use crate::Result;

/// The sum of `x` and the output of a branch, `[B, N, C]`, times `gamma`, `[C]`, and times `drop_scale`, `[B]`.
pub fn add_branch(
    mut branch: Buffer,
    x: &[f32],
    gamma: Option<&[f32]>,
    drop_scale: Option<&[f32]>,
) -> Result<Buffer> {
    if let Some(gamma) = gamma {
        scale_channels(&mut branch, gamma, gamma.len())?;
    }
    if let Some(factors) = drop_scale {
        scale_parts(&mut branch, factors)?;
    }
    add_assign(&mut branch, x)?;
    Ok(branch)
}

/// The gradient of the sum times `drop_scale`, as products take it.
pub fn scaled_grad(grad: &[f32], drop_scale: &[f32]) -> Result<Buffer> {
    let mut scaled = copy(grad)?;
    scale_parts(&mut scaled, drop_scale)?;
    Ok(scaled)
}
