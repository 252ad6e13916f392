//! A chain of half blocks as one operation on the tape.

use super::attention::SelfAttention;
use super::convolution::MaskedConvolution;
use super::mlp::Mlp;
use super::{Branch, Half};
use crate::kernels::elementwise::{add_assign, mul_assign, scale_channels, scale_parts};
use crate::kernels::layer_norm::Statistics;
use crate::kernels::{Buffer, chunks};
use crate::ops::layers::{Depthwise, Linear, Norm};
use crate::ops::operation_on;
use crate::tensor::{Result, Tensor};
use crate::{Context, Param};

pub fn chain(x: Tensor, halves: Vec<Half<'_>>, ctx: &Context) -> Result<Tensor> {
    let shape = x.dims3()?;
    let steps: Vec<_> = halves.into_iter().map(|half| step(half, shape)).collect();
    let recompute = ctx.checkpoint_activations;
    operation_on(&ctx.tape, vec![x], shape, move |mut inputs, record| {
        let mut x = inputs.swap_remove(0);
        let mut backwards = Vec::new();
        for step in steps {
            let (y, backward) = step.forward(x, record, recompute);
            backwards.extend(backward);
            x = y;
        }
        let backward = move |mut grad: Buffer| {
            // Popped one by one: what a half kept is freed as soon as its backward ran.
            while let Some(backward) = backwards.pop() {
                grad = backward(grad);
            }
            vec![grad]
        };
        Ok((x, record.then(|| Box::new(backward) as _)))
    })
}

/// A branch behind its norm, on rows.
pub(super) trait BranchKernel: 'static {
    /// What the backward needs besides the branch's input.
    type Kept: 'static;

    /// The branch's output, added to `residual` if there is one, and what the backward needs.
    fn forward(&self, x: &[f32], residual: Option<&[f32]>) -> (Buffer, Self::Kept);

    /// What the backward needs, without the output.
    fn again(&self, x: &[f32]) -> Self::Kept;

    /// Adds the gradients of the parameters and returns that of the branch's input.
    fn backward(&self, x: &[f32], kept: Self::Kept, grad: &[f32]) -> Buffer;
}

type Backward = Box<dyn FnOnce(Buffer) -> Buffer>;

trait Step {
    /// The output, and the backward if one will follow.
    fn forward(self: Box<Self>, x: Buffer, record: bool, recompute: bool) -> (Buffer, Option<Backward>);
}

fn step(half: Half<'_>, (batch, tokens, channels): (usize, usize, usize)) -> Box<dyn Step> {
    let Half { norm, branch, scale, factors } = half;
    let (norm, scale) = (Norm::new(norm), scale.cloned());
    match branch {
        Branch::Mlp { fc1, fc2 } => {
            let branch = Mlp { fc1: Linear::new(fc1), fc2: Linear::new(fc2) };
            Box::new(Residual { norm, branch, scale, factors })
        }
        Branch::SelfAttention { qkv, proj, heads, bias } => {
            let (qkv, proj) = (Linear::new(qkv), Linear::new(proj));
            let branch = SelfAttention::new(qkv, proj, (batch, tokens, channels), heads, bias);
            Box::new(Residual { norm, branch, scale, factors })
        }
        Branch::MaskedConvolution { conv1, depthwise, conv2 } => {
            let (conv1, conv2) = (Linear::new(conv1), Linear::new(conv2));
            let branch = MaskedConvolution { conv1, depthwise: Depthwise::new(depthwise), conv2 };
            Box::new(Residual { norm, branch, scale, factors })
        }
    }
}

/// `x + factors * scale * branch(norm(x))`.
struct Residual<B> {
    norm: Norm,
    branch: B,
    scale: Option<Param>,
    factors: Option<Vec<f32>>,
}

/// What the backward of a half needs besides its input.
struct Kept<K> {
    statistics: Vec<Statistics>,
    branch: K,
    /// Of the branch, before it is scaled by channel.
    output: Option<Buffer>,
}

impl<B: BranchKernel> Step for Residual<B> {
    fn forward(self: Box<Self>, x: Buffer, record: bool, recompute: bool) -> (Buffer, Option<Backward>) {
        let keeps = record && !recompute;
        let (y, kept) = self.output(&x, keeps);
        let kept = keeps.then_some(kept);
        let backward = move |grad| self.backward(&x, kept, grad);
        (y, record.then(|| Box::new(backward) as _))
    }
}

impl<B: BranchKernel> Residual<B> {
    fn output(&self, x: &[f32], keeps: bool) -> (Buffer, Kept<B::Kept>) {
        let (normalized, statistics) = self.norm.forward(x);
        let is_plain = self.factors.is_none() && self.scale.is_none();
        let (mut y, branch) = self.branch.forward(&normalized, is_plain.then_some(x));
        let output = (keeps && self.scale.is_some()).then(|| Buffer::copy(&y));
        if let Some(scale) = &self.scale {
            let scale = scale.values();
            scale_channels(&mut y, &scale, scale.len());
        }
        if let Some(factors) = &self.factors {
            scale_parts(&mut y, factors);
        }
        if !is_plain {
            add_assign(&mut y, x);
        }
        (y, Kept { statistics, branch, output })
    }

    /// What was not kept, computed again, with the normalised input.
    fn again(&self, x: &[f32]) -> (Buffer, Kept<B::Kept>) {
        let (normalized, statistics) = self.norm.forward(x);
        let (branch, output) = match self.scale {
            Some(_) => {
                let (output, branch) = self.branch.forward(&normalized, None);
                (branch, Some(output))
            }
            None => (self.branch.again(&normalized), None),
        };
        (normalized, Kept { statistics, branch, output })
    }

    /// The gradient of the input from that of the output.
    fn backward(&self, x: &[f32], kept: Option<Kept<B::Kept>>, mut grad: Buffer) -> Buffer {
        let (normalized, kept) = match kept {
            Some(kept) => (self.norm.again(x, &kept.statistics), kept),
            None => self.again(x),
        };
        let Kept { statistics, branch, output } = kept;
        let scaled = self.scaled(&grad, output);
        let grad_branch = self.branch.backward(&normalized, branch, scaled.as_deref().unwrap_or(&grad));
        drop((normalized, scaled));
        self.norm.backward_onto(&grad_branch, x, &statistics, &mut grad);
        grad
    }

    /// The gradient of the branch's output, where it is not that of the sum; adds that of the scale.
    fn scaled(&self, grad: &Buffer, output: Option<Buffer>) -> Option<Buffer> {
        if self.factors.is_none() && self.scale.is_none() {
            return None;
        }
        let mut scaled = Buffer::copy(grad);
        if let Some(factors) = &self.factors {
            scale_parts(&mut scaled, factors);
        }
        if let (Some(scale), Some(mut output)) = (&self.scale, output) {
            mul_assign(&mut output, &scaled);
            scale.accumulate_grad(|sum, mode| chunks::sum_rows(&output, sum, mode));
            let scale = scale.values();
            scale_channels(&mut scaled, &scale, scale.len());
        }
        Some(scaled)
    }
}
