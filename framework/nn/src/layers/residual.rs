//! A residual connection around a branch: half a block.

use super::LayerNorm;
use crate::backend::elementwise::{mul_assign, scale_channels, scale_parts};
use crate::backend::layer_norm::Statistics;
use crate::backend::residual::{add_branch, scaled_grad};
use crate::backend::{Buffer, Values, chunks, copy, operand, single, take_operand, upload};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass};
use crate::{Param, Shape};

/// What a [`Residual`] adds to its input: attention, an MLP, a convolution, or what a plug-in makes up.
///
/// Inputs are normalised, `[B, N, C]`, and outputs have the same shape. Both are stored as products take them, gradients too; an output
/// that is added to a residual is stored as that is. What the backward needs is to be little: it is kept for
/// every block of a network, while what [`Branch::recompute`] makes lives for one at a time.
pub trait Branch: 'static {
    /// What the backward needs besides the input.
    type Saved: 'static;

    /// That the parameters fit an input of this shape, and have values.
    ///
    /// # Errors
    /// If they do not fit.
    fn check(&self, input: Shape) -> Result<()>;

    /// Whether it may have parameters to train.
    fn may_train(&self) -> bool {
        true
    }

    /// The output, added to `residual` if there is one, and what the backward needs.
    ///
    /// # Errors
    /// If the device fails.
    fn forward(&self, x: &Values, shape: Shape, residual: Option<&Values>) -> Result<(Buffer, Self::Saved)>;

    /// What the backward needs, without the output: with activation checkpointing nothing was kept.
    ///
    /// # Errors
    /// If the device fails.
    fn recompute(&self, x: &Values, shape: Shape) -> Result<Self::Saved>;

    /// Adds the gradients of the parameters and returns that of the input, from the gradient of the output.
    ///
    /// # Errors
    /// If the device fails.
    fn backward(&self, x: &Values, saved: Self::Saved, grad: &Values, shape: Shape) -> Result<Buffer>;
}

/// `x + drop_scale * gamma * branch(norm(x))` on `[B, N, C]`.
///
/// No more is kept than the backward needs: normalised rows are computed again from the input and the statistics. With
/// activation checkpointing the input is kept alone.
///
/// ```
/// use convmae_nn::layers::{LayerNorm, Mlp, Residual};
/// use convmae_nn::ops::Sequential;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::eval(stream(Purpose::Evaluate, &[0])));
/// let norm = LayerNorm::new(&scope.child("norm2"), 2, 1e-6);
/// let mlp = Mlp::new(&scope.child("mlp"), 2, 8);
/// let x = Tensor::from_vec(vec![3.0, 3.0], (1, 1, 2), &ctx.tape)?;
/// // A row without variance is normalised to zeros, of which the MLP makes zeros.
/// let y = Sequential::new().then(Residual::new(&norm, mlp)).forward(x, &ctx)?;
/// assert_eq!(y.to_vec()?, [3.0, 3.0]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug)]
pub struct Residual<B> {
    norm: LayerNorm,
    branch: B,
    gamma: Option<Param>,
    drop_scale: Option<Vec<f32>>,
}

/// What the backward of a [`Residual`] needs besides its input.
struct Saved<S> {
    statistics: Statistics,
    branch: S,
    /// Of the branch, before it is scaled by channel.
    output: Option<Buffer>,
}

impl<B: Branch> Residual<B> {
    /// `x + branch(norm(x))`.
    pub fn new(norm: &LayerNorm, branch: B) -> Self {
        Self { norm: norm.clone(), branch, gamma: None, drop_scale: None }
    }

    /// With a factor for each channel of the branch, `[C]`, if there is one (layer scale, Touvron et al. 2021).
    #[must_use]
    pub fn layer_scale(self, gamma: Option<&Param>) -> Self {
        Self { gamma: gamma.cloned(), ..self }
    }

    /// With a factor for each sample's branch, `[B]`, if there are any (stochastic depth, [`super::DropPath::scale`]).
    #[must_use]
    pub fn drop_path(self, drop_scale: Option<Vec<f32>>) -> Self {
        Self { drop_scale, ..self }
    }
}

impl<B: Branch> Layer for Residual<B> {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let (batch, _, channels) = input.dims3()?;
        self.norm.check(channels)?;
        self.gamma.iter().try_for_each(|gamma| gamma.check_channels(channels))?;
        if let Some(scale) = self.drop_scale.as_ref().filter(|scale| scale.len() != batch) {
            return Err(Error::Shape(format!("{} factors for {batch} samples", scale.len())));
        }
        self.branch.check(input)?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        let own = self.gamma.as_ref().is_some_and(Param::requires_grad);
        own || self.norm.may_train() || self.branch.may_train()
    }

    fn forward(self: Box<Self>, x: Buffer, shape: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let Self { norm, branch, gamma, drop_scale } = *self;
        let drop_scale = drop_scale.map(upload).transpose()?;
        let sum = Sum { norm, branch, gamma, drop_scale, shape };
        let keeps = pass.records && !pass.checkpoint_activations;
        let (y, saved) = sum.forward(&x, keeps)?;
        let saved = keeps.then_some(saved);
        Ok((y, Box::new(move |grad| sum.backward(&x, saved, grad).map(Some))))
    }
}

/// A [`Residual`] for inputs of one shape.
struct Sum<B> {
    norm: LayerNorm,
    branch: B,
    gamma: Option<Param>,
    drop_scale: Option<Buffer>,
    shape: Shape,
}

impl<B: Branch> Sum<B> {
    fn forward(&self, x: &Values, keeps: bool) -> Result<(Buffer, Saved<B::Saved>)> {
        let (normalized, statistics) = self.norm.operand_rows(x)?;
        let is_plain = self.drop_scale.is_none() && self.gamma.is_none();
        let (y, branch) = self.branch.forward(&normalized, self.shape, is_plain.then_some(x))?;
        let output = (keeps && self.gamma.is_some()).then(|| copy(&y)).transpose()?;
        let y = if is_plain { y } else { self.add(y, x)? };
        Ok((y, Saved { statistics, branch, output }))
    }

    /// What was not kept, computed again, with the normalised input.
    fn recompute(&self, x: &Values) -> Result<(Buffer, Saved<B::Saved>)> {
        let (normalized, statistics) = self.norm.operand_rows(x)?;
        let (branch, output) = match self.gamma {
            Some(_) => {
                let (output, branch) = self.branch.forward(&normalized, self.shape, None)?;
                (branch, Some(output))
            }
            None => (self.branch.recompute(&normalized, self.shape)?, None),
        };
        Ok((normalized, Saved { statistics, branch, output }))
    }

    /// The gradient of the input from that of the output.
    fn backward(&self, x: &Values, saved: Option<Saved<B::Saved>>, mut grad: Buffer) -> Result<Buffer> {
        let (normalized, saved) = match saved {
            Some(saved) => (self.norm.recompute(x, &saved.statistics)?, saved),
            None => self.recompute(x)?,
        };
        let Saved { statistics, branch, output } = saved;
        let scaled = self.backward_scale(&grad, output)?;
        let rounded = if scaled.is_none() { take_operand(&mut grad)? } else { None };
        let grad_output = scaled.as_deref().or(rounded.as_deref()).unwrap_or(&grad);
        let grad_branch = self.branch.backward(&normalized, branch, grad_output, self.shape)?;
        drop((normalized, scaled, rounded));
        self.norm.backward_onto(&grad_branch, x, &statistics, &mut grad)?;
        Ok(grad)
    }

    /// The output of the branch times its factors, and the input.
    fn add(&self, y: Buffer, x: &Values) -> Result<Buffer> {
        let gamma = self.gamma.as_ref().map(Param::values);
        add_branch(y, x, gamma.as_deref(), self.drop_scale.as_deref())
    }

    /// The gradient of the branch's output as products take it, where it is not that of the sum; adds that of the layer scale.
    fn backward_scale(&self, grad: &Values, output: Option<Buffer>) -> Result<Option<Buffer>> {
        let (Some(gamma), Some(output)) = (&self.gamma, output) else {
            return self.drop_scale.as_ref().map(|factors| scaled_grad(grad, factors)).transpose();
        };
        let (mut scaled, mut output) = (copy(grad)?, single(output)?);
        if let Some(factors) = &self.drop_scale {
            scale_parts(&mut scaled, factors)?;
        }
        mul_assign(&mut output, &scaled)?;
        gamma.accumulate_grad(|sum, mode| chunks::sum_rows(&output, sum, mode))?;
        scale_channels(&mut scaled, &gamma.values(), gamma.numel())?;
        Ok(Some(operand(&scaled)?.unwrap_or(scaled)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layers::Mlp;
    use crate::ops::Sequential;
    use crate::testing::{context, noise, run};
    use crate::{Init, Scope, Tape, Tensor, oracle};

    /// Images, tokens, channels.
    pub const SHAPE: (usize, usize, usize) = (2, 8, 6);

    /// Compares two residuals with their composition: plain, with factors, and computed again in the backward.
    pub fn assert_equals_composition<B: Branch + Clone>(
        build: impl Fn(&Scope) -> B,
        composed: impl Fn(&B, Tensor) -> Result<Tensor>,
    ) {
        let drop_scales = [None, Some(vec![0.0, 1.25])];
        for (scaled, drop_scale) in [(false, 0), (false, 1), (true, 0), (true, 1)]
            .map(|(scaled, at)| (scaled, drop_scales[at].clone()))
        {
            let scope = Scope::new(0);
            let norm = LayerNorm::new(&scope.child("norm"), SHAPE.2, 1e-3);
            let branch = build(&scope);
            let gamma = scaled.then(|| scope.param("gamma", &[SHAPE.2], &Init::ZEROS));
            let params = scope.params();
            for (seed, param) in params.iter().enumerate() {
                param.set(&noise(seed as u64, param.numel())).unwrap();
            }
            let params: Vec<&Param> = params.iter().collect();
            let x = noise(99, SHAPE.0 * SHAPE.1 * SHAPE.2);
            let residual = || {
                let residual = Residual::new(&norm, branch.clone());
                residual.layer_scale(gamma.as_ref()).drop_path(drop_scale.clone())
            };
            let own = |checkpoint_activations| {
                run(&x, SHAPE, &params, |x| {
                    let mut ctx = context(false);
                    ctx.checkpoint_activations = checkpoint_activations;
                    Sequential::new().then_all([residual(), residual()]).forward(x, &ctx)
                })
            };
            let half = |x: Tensor| {
                let y = composed(&branch, oracle::layer_norm(x.clone(), &norm)?)?;
                oracle::add(x, oracle::scale_branch(y, gamma.as_ref(), drop_scale.as_deref())?)
            };
            let kept = own(false);
            kept.assert_close(&run(&x, SHAPE, &params, |x| half(half(x)?)), 5e-5);
            assert_eq!(own(true), kept);
        }
    }

    /// Whether a branch refuses an input.
    pub fn refused(branch: impl Branch, shape: (usize, usize, usize)) -> bool {
        let norm = LayerNorm::new(&Scope::new(0), shape.2, 1e-3);
        let x = Tensor::from_vec(vec![0.0; shape.0 * shape.1 * shape.2], shape, &Tape::none()).unwrap();
        let result = Sequential::new().then(Residual::new(&norm, branch)).forward(x, &context(false));
        matches!(result, Err(Error::Shape(_)))
    }

    #[test]
    fn factors_that_do_not_fit_are_refused() {
        let scope = Scope::new(0);
        let norm = LayerNorm::new(&scope.child("norm"), 6, 1e-3);
        let residual = || Residual::new(&norm, Mlp::new(&scope.child("mlp"), 6, 10));
        let shape = Shape::from(SHAPE);
        assert!(residual().output_shape(shape).is_ok());
        assert!(residual().drop_path(Some(vec![1.0; 3])).output_shape(shape).is_err());
        let gamma = scope.param("gamma", &[5], &Init::ONES);
        assert!(residual().layer_scale(Some(&gamma)).output_shape(shape).is_err());
        assert!(residual().output_shape(Shape::from((2, 8, 5))).is_err());
    }
}
