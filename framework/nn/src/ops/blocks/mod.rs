//! Chains of half blocks, `x + branch(norm(x))`, as single operations.
//!
//! Within a chain nothing is copied, no gradient of an intermediate result stays behind, and no more is kept than the backward needs:
//! normalised rows are computed again from the input and the statistics, activations from what goes into them. With
//! activation checkpointing the input of each half is kept alone.

#[cfg(not(feature = "cuda"))]
mod attention;
#[cfg(not(feature = "cuda"))]
mod convolution;
#[cfg(not(feature = "cuda"))]
mod kernel;
#[cfg(not(feature = "cuda"))]
mod mlp;

use super::{DepthwiseParams, LinearParams, NormParams, RelativePositionBias};
use crate::tensor::{Error, Result, Tensor};
use crate::{Context, Param};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// Half a block: `x + factors * scale * branch(norm(x))` on `[B, N, C]`.
#[derive(Debug, Clone)]
pub struct Half<'a> {
    /// The norm in front of the branch.
    pub norm: NormParams<'a>,
    /// What is added to the input.
    pub branch: Branch<'a>,
    /// What each channel of the branch is multiplied by (layer scale, Touvron et al. 2021), `[C]`.
    pub scale: Option<&'a Param>,
    /// What each sample's branch is multiplied by (stochastic depth), `[B]`.
    pub factors: Option<Vec<f32>>,
}

/// What a [`Half`] adds to its input.
#[derive(Debug, Clone, Copy)]
pub enum Branch<'a> {
    /// `fc2(gelu(fc1(x)))`.
    Mlp {
        /// `C` to the hidden channels.
        fc1: LinearParams<'a>,
        /// And back.
        fc2: LinearParams<'a>,
    },
    /// `proj(attention(qkv(x)))`.
    SelfAttention {
        /// `C` to `3 * C`.
        qkv: LinearParams<'a>,
        /// `C` to `C`.
        proj: LinearParams<'a>,
        /// Number of heads.
        heads: usize,
        /// What is added to the scores.
        bias: Option<RelativePositionBias<'a>>,
    },
    /// `conv2(depthwise(visible * conv1(x)))`.
    MaskedConvolution {
        /// Pointwise, `C` to `C`.
        conv1: LinearParams<'a>,
        /// The depthwise convolution and its mask.
        depthwise: DepthwiseParams<'a>,
        /// Pointwise, `C` to `C`.
        conv2: LinearParams<'a>,
    },
}

impl Half<'_> {
    /// That the parameters fit features of this shape.
    fn check(&self, (batch, tokens, channels): (usize, usize, usize)) -> Result<()> {
        self.norm.check(channels)?;
        if let Some(factors) = self.factors.as_ref().filter(|factors| factors.len() != batch) {
            return Err(Error::Shape(format!("{} factors for {batch} samples", factors.len())));
        }
        if let Some(scale) = self.scale.filter(|scale| scale.shape() != [channels]) {
            return Err(Error::Shape(format!(
                "{}: factors {:?} for {channels} channels",
                scale.name(),
                scale.shape()
            )));
        }
        match self.branch {
            Branch::Mlp { fc1, fc2 } => fc2.check_outputs(fc1.check(channels)?, channels),
            Branch::SelfAttention { qkv, proj, heads, bias } => {
                bias.iter().try_for_each(|bias| bias.check(tokens, heads))?;
                super::attention::check_heads((tokens, 3 * channels), heads)?;
                qkv.check_outputs(channels, 3 * channels)?;
                proj.check_outputs(channels, channels)
            }
            Branch::MaskedConvolution { conv1, depthwise, conv2 } => {
                conv1.check_outputs(channels, channels)?;
                depthwise.check((batch, tokens, channels))?;
                conv2.check_outputs(channels, channels)
            }
        }
    }
}

/// Half blocks one after another.
///
/// # Errors
/// If a parameter does not fit.
pub fn chain(x: Tensor, halves: Vec<Half<'_>>, ctx: &Context) -> Result<Tensor> {
    if halves.is_empty() {
        return Ok(x);
    }
    let shape = x.dims3()?;
    halves.iter().try_for_each(|half| half.check(shape))?;
    implementation::chain(x, halves, ctx)
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Axes2;
    use dfdx::tensor_ops::{BroadcastTo as _, TryMul as _};

    use super::{Branch, Half};
    use crate::ops::relative_position::composed::biases;
    use crate::tensor::{Result, Tensor};
    use crate::{Context, ops};

    /// Keeps what dfdx keeps: checkpointing is of the kernels.
    pub fn chain(x: Tensor, halves: Vec<Half<'_>>, ctx: &Context) -> Result<Tensor> {
        halves.into_iter().try_fold(x, |x, half| {
            let branch = branch(ops::layer_norm(x.clone(), half.norm, &ctx.tape)?, half.branch, ctx)?;
            let branch = match half.scale {
                Some(scale) => {
                    let shape = branch.dims3()?;
                    let scale = scale.tensor(&branch.tape())?.try_broadcast_like::<_, Axes2<0, 1>>(&shape)?;
                    Tensor::from_typed(branch.typed(shape)?.try_mul(scale)?)?
                }
                None => branch,
            };
            let branch = match half.factors {
                Some(factors) => ops::scale_samples(branch, factors)?,
                None => branch,
            };
            ops::add(x, branch)
        })
    }

    fn branch(x: Tensor, branch: Branch<'_>, ctx: &Context) -> Result<Tensor> {
        let linear = |x, params| ops::linear(x, params, &ctx.tape);
        match branch {
            Branch::Mlp { fc1, fc2 } => linear(ops::gelu(linear(x, fc1)?)?, fc2),
            Branch::SelfAttention { qkv, proj, heads, bias } => {
                let bias = bias.map(|bias| biases(bias, &x.tape())).transpose()?;
                linear(ops::attention(linear(x, qkv)?, heads, bias)?, proj)
            }
            Branch::MaskedConvolution { conv1, depthwise, conv2 } => {
                linear(ops::depthwise(linear(x, conv1)?, depthwise, &ctx.tape)?, conv2)
            }
        }
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::random::{Purpose, stream};
    use crate::testing::{noise, noise_param, run};
    use crate::{Param, PatchLayout};

    /// Images, tokens, channels.
    const SHAPE: (usize, usize, usize) = (2, 8, 6);

    struct Params(Vec<Param>);

    impl Params {
        /// A norm's, then those of the given shapes.
        fn new(shapes: &[&[usize]]) -> Self {
            let shapes = [&[6][..], &[6]].into_iter().chain(shapes.iter().copied());
            Self(shapes.enumerate().map(|(seed, shape)| noise_param(seed as u64, shape)).collect())
        }

        fn linear(&self, at: usize) -> LinearParams<'_> {
            LinearParams { weight: &self.0[at], bias: Some(&self.0[at + 1]) }
        }

        /// Compares two halves with their composition: plain, with factors, and computed again in the backward.
        fn check(&self, branch: Branch<'_>) {
            let x = noise(9, SHAPE.0 * SHAPE.1 * SHAPE.2);
            let norm = NormParams { weight: &self.0[0], bias: &self.0[1], eps: 1e-3 };
            let gamma = noise_param(77, &[6]);
            let params: Vec<_> = self.0.iter().chain([&gamma]).collect();
            let cases = [
                (None, None),
                (Some(vec![0.0, 1.25]), None),
                (None, Some(&gamma)),
                (Some(vec![1.25, 0.0]), Some(&gamma)),
            ];
            for (factors, scale) in cases {
                let params = &params[..self.0.len() + usize::from(scale.is_some())];
                let half = Half { norm, branch, scale, factors };
                let halves = vec![half.clone(), half];
                let chain = |recompute, chain: fn(Tensor, Vec<Half<'_>>, &Context) -> Result<Tensor>| {
                    run(&x, SHAPE, params, |x| {
                        // The input's tape is the one that is recorded on.
                        let mut ctx = Context::eval(stream(Purpose::Step, &[0]));
                        ctx.checkpoint_activations = recompute;
                        chain(x, halves.clone(), &ctx)
                    })
                };
                let own = chain(false, super::chain);
                own.assert_close(&chain(false, composed::chain), 5e-5);
                assert_eq!(chain(true, super::chain), own);
            }
        }
    }

    #[test]
    fn the_feed_forward_half_equals_its_composition() {
        let params = Params::new(&[&[10, 6], &[10], &[6, 10, 1, 1], &[6]]);
        params.check(Branch::Mlp { fc1: params.linear(2), fc2: params.linear(4) });
    }

    #[test]
    fn the_attention_half_equals_its_composition() {
        let params = Params::new(&[&[18, 6], &[18], &[6, 6], &[6]]);
        let branch = |bias| {
            let (qkv, proj) = (params.linear(2), params.linear(4));
            Branch::SelfAttention { qkv, proj, heads: 2, bias }
        };
        params.check(branch(None));
        // Each of 2 x 4 tokens, two heads.
        let mut params = Params::new(&[&[18, 6], &[18], &[6, 6], &[6]]);
        params.0.push(noise_param(78, &[21, 2]));
        params.check(Branch::SelfAttention {
            qkv: params.linear(2),
            proj: params.linear(4),
            heads: 2,
            bias: Some(RelativePositionBias { table: &params.0[6], grid: (2, 4) }),
        });
    }

    #[test]
    fn the_convolution_half_equals_its_composition() {
        let params = Params::new(&[&[6, 6, 1, 1], &[6], &[6, 1, 3, 3], &[6], &[6, 6, 1, 1], &[6]]);
        let layout = Rc::new(PatchLayout::new(2, 2, 2, 2, vec![0, 3, 2, 1]).unwrap());
        let mask: Rc<[f32]> = (0..SHAPE.0 * SHAPE.1).map(|at| f32::from(at % 3 > 0)).collect();
        let (weight, bias) = (&params.0[4], Some(&params.0[5]));
        for visible in [None, Some(&mask)] {
            let depthwise = DepthwiseParams { weight, bias, layout: &layout, visible };
            let (conv1, conv2) = (params.linear(2), params.linear(6));
            params.check(Branch::MaskedConvolution { conv1, depthwise, conv2 });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let params = Params::new(&[&[10, 6], &[10], &[5, 10], &[5]]);
        let norm = NormParams { weight: &params.0[0], bias: &params.0[1], eps: 1e-3 };
        let ctx = Context::eval(stream(Purpose::Step, &[0]));
        let refused = |branch, factors| {
            let x = Tensor::from_vec(noise(1, 96), SHAPE, &ctx.tape).unwrap();
            matches!(chain(x, vec![Half { norm, branch, scale: None, factors }], &ctx), Err(Error::Shape(_)))
        };
        let narrow = Branch::Mlp { fc1: params.linear(2), fc2: params.linear(4) };
        assert!(refused(narrow, None));
        let (qkv, proj) = (params.linear(2), params.linear(4));
        assert!(refused(Branch::SelfAttention { qkv, proj, heads: 2, bias: None }, None));
        let fits = Params::new(&[&[10, 6], &[10], &[6, 10], &[6]]);
        let mlp = Branch::Mlp { fc1: fits.linear(2), fc2: fits.linear(4) };
        assert!(!refused(mlp, None) && refused(mlp, Some(vec![1.0; 3])));
    }
}
