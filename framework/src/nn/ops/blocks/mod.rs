//! Halves of blocks as single operations: `x + branch(norm(x))`.
//!
//! As one operation a half block copies its input once, leaves no gradient of an intermediate result behind, and keeps no more
//! than its backward needs: the normalised rows are computed again from the input and the statistics, the activations from what goes
//! into them. With [`Residual::recompute`] it keeps its input alone.

mod attention;
mod convolution;
mod mlp;

use super::{LinearParams, NormParams};
use crate::nn::Tape;

pub use attention::self_attention;
pub use convolution::masked_convolution;
pub use mlp::mlp;

/// How a branch is added to its input.
#[derive(Debug, Clone)]
pub struct Residual<'a> {
    /// What each sample's branch is multiplied by (stochastic depth), `[B]`.
    pub factors: Option<Vec<f32>>,
    /// Whether the backward computes the branch again instead of keeping its intermediate results (activation checkpointing).
    pub recompute: bool,
    /// The tape that the gradients of the parameters are recorded on, also where the input is a constant.
    pub tape: &'a Tape,
}

#[cfg(not(feature = "cuda"))]
mod kernel {
    use dfdx::shapes::HasShape as _;

    use super::Residual;
    use crate::nn::kernels::elementwise::{add_assign, scale_parts};
    use crate::nn::kernels::{Buffer, layer_norm::Statistics};
    use crate::nn::ops::layers::Norm;
    use crate::nn::ops::{flat, operation_on};
    use crate::nn::tensor::{Result, T3};

    /// A branch behind its norm, on rows.
    pub(super) trait Branch: 'static {
        /// What the backward needs besides the branch's input.
        type Kept: 'static;

        /// Adds the branch's output to `y`, if there is one: without it, only what the backward needs is computed.
        fn forward(&self, x: &[f32], y: Option<&mut [f32]>) -> Self::Kept;

        /// Adds the gradients of the parameters and returns that of the branch's input.
        fn backward(&self, x: &[f32], kept: Self::Kept, grad: &[f32]) -> Buffer;
    }

    /// `x + factors * branch(norm(x))`.
    pub(super) fn residual<B: Branch>(x: T3, norm: Norm, branch: B, how: Residual<'_>) -> Result<T3> {
        let shape = *x.shape();
        let Residual { factors, recompute, tape } = how;
        operation_on(tape, vec![flat(x)?], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let (y, kept) = forward(&x, &norm, &branch, factors.as_deref());
            let kept = (record && !recompute).then_some(kept);
            let backward = move |mut grad: Buffer| {
                let (statistics, kept) = kept.unwrap_or_else(|| {
                    let (normalized, statistics) = norm.forward(&x);
                    (statistics, branch.forward(&normalized, None))
                });
                let normalized = norm.again(&x, &statistics);
                let grad_branch = match &factors {
                    Some(factors) => {
                        let mut scaled = Buffer::copy(&grad);
                        scale_parts(&mut scaled, factors);
                        branch.backward(&normalized, kept, &scaled)
                    }
                    None => branch.backward(&normalized, kept, &grad),
                };
                drop(normalized);
                norm.backward_onto(grad_branch, &x, &statistics, &mut grad);
                vec![grad]
            };
            Ok((y, record.then(|| Box::new(backward) as _)))
        })
    }

    fn forward<B: Branch>(
        x: &[f32],
        norm: &Norm,
        branch: &B,
        factors: Option<&[f32]>,
    ) -> (Buffer, (Vec<Statistics>, B::Kept)) {
        let (normalized, statistics) = norm.forward(x);
        let mut y = if factors.is_some() { Buffer::zeros(x.len()) } else { Buffer::copy(x) };
        let kept = branch.forward(&normalized, Some(&mut y));
        if let Some(factors) = factors {
            scale_parts(&mut y, factors);
            add_assign(&mut y, x);
        }
        (y, (statistics, kept))
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use super::Residual;
    use crate::nn::ops;
    use crate::nn::tensor::{Result, T3};

    /// `x + factors * branch`.
    pub(super) fn residual(x: T3, branch: T3, how: Residual<'_>) -> Result<T3> {
        let branch = match how.factors {
            Some(factors) => ops::scale_samples(branch, factors)?,
            None => branch,
        };
        ops::add(x, branch)
    }
}

/// What the tests of the half blocks share.
#[cfg(all(test, not(feature = "cuda")))]
mod testing {
    use super::Residual;
    use crate::nn::testing::{noise, noise_param, run};
    use crate::nn::{Param, Result, T3, Tape};

    /// Images, tokens, channels.
    pub const SHAPE: (usize, usize, usize) = (2, 8, 6);

    /// Parameters of these shapes, the first two being a norm's.
    pub fn params(shapes: &[&[usize]]) -> Vec<Param> {
        [&[6][..], &[6]].iter().chain(shapes).enumerate().map(|(seed, shape)| noise_param(seed as u64, shape)).collect()
    }

    /// Compares a half block with its composition: plain, with factors, and computed again in the backward.
    pub fn check(
        params: &[Param],
        own: impl Fn(T3, Residual<'_>) -> Result<T3>,
        composed: impl Fn(T3, Residual<'_>) -> Result<T3>,
    ) {
        let params: Vec<_> = params.iter().collect();
        let x = noise(9, SHAPE.0 * SHAPE.1 * SHAPE.2);
        let tape = Tape::none();
        for factors in [None, Some(vec![0.0, 1.25])] {
            let how = |recompute| Residual { factors: factors.clone(), recompute, tape: &tape };
            let expected = run(&x, SHAPE, &params, |x| composed(x, how(false)));
            let plain = run(&x, SHAPE, &params, |x| own(x, how(false)));
            plain.assert_close(&expected, 2e-5);
            assert_eq!(run(&x, SHAPE, &params, |x| own(x, how(true))), plain);
        }
    }
}
