//! Batch normalisation with its running statistics.

use std::rc::Rc;

use super::running_statistics;
use super::shared_statistics::{self, Exchange};
use crate::backend::Buffer;
use crate::backend::batch_norm::{self, Moments};
use crate::error::{Error, Result};
use crate::ops::{Layer, LayerBackward, Pass, apply};
use crate::tensor::Tensor;
use crate::{Context, Init, Param, Scope, Shape};

/// PyTorch's `BatchNorm1d` of tokens, `BatchNorm2d` of maps: every channel, the last axis, normalised over all others
/// (Ioffe and Szegedy 2015, <https://arxiv.org/abs/1502.03167>).
///
/// In training by the mean and the biased variance of the batch, which also enter the running statistics (the variance
/// unbiased); otherwise, and where scale and shift are not trained, by the running ones.
///
/// ```
/// use convmae_nn::layers::BatchNorm;
/// use convmae_nn::random::{Purpose, stream};
/// use convmae_nn::{Context, Scope, Tensor};
///
/// let (scope, ctx) = (Scope::new(0), Context::train(stream(Purpose::Step, &[0])));
/// let norm = BatchNorm::new(&scope.child("bn"), 1, 0.0);
/// let x = Tensor::from_vec(vec![2.0, 6.0], (2, 1), &ctx.tape)?;
/// assert_eq!(norm.forward(x, &ctx)?.to_vec()?, [-1.0, 1.0]);
/// # Ok::<(), convmae_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The scale (`weight`) and the shift (`bias`), each `[C]`, unless it is without (`affine=False`).
    pub affine: Option<[Param; 2]>,
    /// `[C]`.
    pub running_mean: Param,
    /// `[C]`, unbiased.
    pub running_var: Param,
    /// The number of batches that entered the running statistics, a scalar.
    pub num_batches_tracked: Param,
    /// How much a batch counts in the running statistics; 0.1 in PyTorch.
    pub momentum: f32,
    /// Added to the variance; 1e-5 in PyTorch.
    pub eps: f32,
    /// Whether the batch is that of all processes that train together (`SyncBatchNorm`): all of them have to come by, if without rows.
    pub sync: bool,
}

/// What rows are normalised by.
struct Normalizer {
    moments: Moments,
    /// The rows that the moments are of, and the processes that they are shared with; nothing of given moments.
    batch: Option<(usize, Option<Rc<dyn Exchange>>)>,
}

impl BatchNorm {
    /// With scale and shift; momentum 0.1. PyTorch's default `eps` is 1e-5.
    pub fn new(scope: &Scope, channels: usize, eps: f32) -> Self {
        let affine = [("weight", Init::ONES), ("bias", Init::ZEROS)]
            .map(|(name, init)| scope.param(name, &[channels], &init));
        Self::with_affine(scope, channels, eps, Some(affine))
    }

    /// Without scale and shift (`affine=False`).
    pub fn without_affine(scope: &Scope, channels: usize, eps: f32) -> Self {
        Self::with_affine(scope, channels, eps, None)
    }

    fn with_affine(scope: &Scope, channels: usize, eps: f32, affine: Option<[Param; 2]>) -> Self {
        Self {
            affine,
            running_mean: scope.buffer("running_mean", &[channels], &Init::ZEROS),
            running_var: scope.buffer("running_var", &[channels], &Init::ONES),
            num_batches_tracked: scope.buffer("num_batches_tracked", &[], &Init::ZEROS),
            momentum: 0.1,
            eps,
            sync: false,
        }
    }

    /// With the statistics of all processes that train together, if `sync`.
    #[must_use]
    pub fn sync(self, sync: bool) -> Self {
        Self { sync, ..self }
    }

    /// Whether other processes wait for this one here, so that it has to come by without rows, too.
    pub fn is_shared(&self) -> bool {
        self.others().is_some()
    }

    fn others(&self) -> Option<Rc<dyn Exchange>> {
        if self.sync && self.is_trained() { shared_statistics::others() } else { None }
    }

    /// `[.., C]` to `[.., C]`.
    ///
    /// # Errors
    /// If the input has other channels, or in training a single row, whose variance says nothing; or if the device fails.
    pub fn forward(&self, x: Tensor, ctx: &Context) -> Result<Tensor> {
        apply(self.clone(), x, ctx)
    }

    fn channels(&self) -> usize {
        self.running_mean.numel()
    }

    /// Unless its scale and shift are frozen.
    fn is_trained(&self) -> bool {
        self.affine.as_ref().is_none_or(|affine| affine.iter().any(Param::requires_grad))
    }

    /// By what rows are normalised.
    fn normalizer(&self, x: &Buffer, training: bool) -> Result<Normalizer> {
        let given = || batch_norm::running_moments(&self.running_mean.values(), &self.running_var.values());
        if !training {
            return Ok(Normalizer { moments: given()?, batch: None });
        }
        let (channels, own) = (self.channels(), x.len() / self.channels());
        let others = self.others();
        let of_own = (own > 0).then(|| batch_norm::moments(x, channels)).transpose()?;
        let of_all = match &others {
            Some(others) => {
                shared_statistics::moments(others.as_ref(), &self.running_mean, of_own.as_ref(), own)?
            }
            None => of_own.map(|moments| (moments, own)),
        };
        let Some((moments, rows)) = of_all else {
            return Ok(Normalizer { moments: given()?, batch: None });
        };
        if rows == 1 {
            return Err(Error::Value(format!(
                "{}: batch normalisation in training needs more than one row per channel; raise the batch size",
                self.running_mean.name()
            )));
        }
        let running = [&self.running_mean, &self.running_var, &self.num_batches_tracked];
        let tells = others.as_ref().is_none_or(|others| others.is_first());
        running_statistics::track(&moments, running, rows, self.momentum, tells)?;
        Ok(Normalizer { moments, batch: Some((rows, others)) })
    }
}

impl Layer for BatchNorm {
    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let own = self.affine.iter().flatten().chain([&self.running_mean, &self.running_var]);
        own.into_iter().try_for_each(|param| param.check_channels(input.channels()))?;
        self.num_batches_tracked.check_allocated()?;
        Ok(input)
    }

    fn may_train(&self) -> bool {
        self.affine.iter().flatten().any(Param::requires_grad)
    }

    fn forward(self: Box<Self>, x: Buffer, _: Shape, pass: Pass) -> Result<(Buffer, LayerBackward)> {
        let training = pass.training && self.is_trained();
        let Normalizer { moments, batch } = self.normalizer(&x, training)?;
        let y = {
            let affine = self.affine.as_ref().map(|affine| affine.each_ref().map(Param::values));
            let affine = affine.as_ref().map(|affine| affine.each_ref().map(|values| &**values));
            batch_norm::forward(&x, &moments, affine, self.eps)?
        };
        let backward = move |mut grad: Buffer| {
            let own = batch_norm::grad_affine(&x, &grad, &moments, self.eps)?;
            let shared = match &batch {
                Some((_, Some(others))) => {
                    let rows = x.len() / self.channels();
                    Some(shared_statistics::grad_affine(others.as_ref(), &self.running_mean, &own, rows)?)
                }
                _ => None,
            };
            {
                let weight = self.affine.as_ref().map(|[weight, _]| weight.values());
                let of_batch = shared.as_ref().unwrap_or(&own).each_ref().map(|grad| &**grad);
                let of_batch = batch.as_ref().map(|(rows, _)| (of_batch, *rows));
                batch_norm::grad_input(&x, &mut grad, &moments, weight.as_deref(), self.eps, of_batch)?;
            }
            for (param, grad) in self.affine.iter().flatten().zip(own) {
                param.add_grad(grad)?;
            }
            Ok(Some(grad))
        };
        Ok((y, Box::new(backward)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle;
    use crate::testing::{
        assert_close, check_gradient, context, loss_weights, noise, noise_param, on_threads, run, wide,
    };
    use crate::{ParamKind, Tape};

    fn norm(channels: usize, affine: bool) -> BatchNorm {
        let variances: Vec<f32> = noise(4, channels).iter().map(|value| 1.5 + value).collect();
        let scope = Scope::new(0);
        BatchNorm {
            affine: affine.then(|| [1, 2].map(|seed| noise_param(seed, &[channels]))),
            running_mean: scope.buffer("mean", &[channels], &Init::Values(noise(3, channels))),
            running_var: scope.buffer("var", &[channels], &Init::Values(variances)),
            ..BatchNorm::new(&scope, channels, 1e-5)
        }
    }

    fn trained(norm: &BatchNorm) -> Vec<&Param> {
        norm.affine.iter().flatten().collect()
    }

    #[test]
    fn agrees_with_the_composition() {
        for (affine, training) in [(true, true), (true, false), (false, true), (false, false)] {
            let x: Vec<f32> = noise(5, 2 * 30 * 7).iter().map(|value| value + 3.0).collect();
            let (own, other) = (norm(7, affine), norm(7, affine));
            let shape = (2, 30, 7);
            let outcome = run(&x, shape, &trained(&own), |x| own.forward(x, &context(training)));
            let expected = run(&x, shape, &trained(&other), |x| oracle::batch_norm(x, &other, training));
            outcome.assert_close(&expected, 2e-5);
            assert_close(
                &own.running_mean.to_vec().unwrap(),
                &wide(&other.running_mean.to_vec().unwrap()),
                1e-6,
            );
            assert_close(
                &own.running_var.to_vec().unwrap(),
                &wide(&other.running_var.to_vec().unwrap()),
                1e-6,
            );
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let norm = norm(2, true);
        let x = noise(5, 12);
        let outcome = run(&x, (3, 2, 2), &trained(&norm), |x| norm.forward(x, &context(true)));
        let [weight, bias] = norm.affine.as_ref().unwrap().each_ref().map(|param| param.to_vec().unwrap());
        check_gradient(&x, &outcome.grads[0], |x| {
            let loss = |channel: usize| {
                let column: Vec<f64> = x.iter().skip(channel).step_by(2).copied().collect();
                let mean = column.iter().sum::<f64>() / 6.0;
                let var = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 6.0;
                let weights = loss_weights(12);
                let terms =
                    column.iter().zip(weights.iter().skip(channel).step_by(2)).map(|(value, &loss)| {
                        let y = (value - mean) / (var + 1e-5).sqrt() * f64::from(weight[channel]);
                        (y + f64::from(bias[channel])) * f64::from(loss)
                    });
                terms.sum::<f64>()
            };
            loss(0) + loss(1)
        });
    }

    #[test]
    fn running_statistics_take_a_tenth_of_the_batch_and_the_unbiased_variance() {
        let norm = norm(1, false);
        norm.running_mean.set(&[1.0]).unwrap();
        norm.running_var.set(&[1.0]).unwrap();
        let x = Tensor::from_vec(vec![0.0, 2.0, 4.0, 6.0], (4, 1), &Tape::none()).unwrap();
        norm.forward(x, &context(true)).unwrap();
        // The batch has mean 3 and unbiased variance 20 / 3.
        assert_close(&norm.running_mean.to_vec().unwrap(), &[1.2], 1e-6);
        assert_close(&norm.running_var.to_vec().unwrap(), &[0.9 + 2.0 / 3.0], 1e-6);
    }

    #[test]
    fn evaluation_uses_and_keeps_the_running_statistics() {
        let norm = norm(1, false);
        norm.running_mean.set(&[1.0]).unwrap();
        norm.running_var.set(&[4.0]).unwrap();
        let x = Tensor::from_vec(vec![5.0], (1, 1), &Tape::none()).unwrap();
        assert_close(&norm.forward(x, &context(false)).unwrap().to_vec().unwrap(), &[2.0], 1e-5);
        assert_eq!(
            (norm.running_mean.to_vec().unwrap()[0], norm.running_var.to_vec().unwrap()[0]),
            (1.0, 4.0)
        );
    }

    #[test]
    fn with_a_frozen_scale_and_shift_training_is_as_evaluation() {
        let scope = Scope::new(0);
        let norm = BatchNorm::new(&scope.freeze(), 2, 1e-5);
        norm.running_mean.set(&[1.0, -2.0]).unwrap();
        let x = noise(5, 12);
        let outcome = |training| run(&x, (3, 2, 2), &[], |x| norm.forward(x, &context(training)));
        assert_eq!(outcome(true), outcome(false));
        assert_eq!(norm.running_mean.to_vec().unwrap(), [1.0, -2.0]);
        assert_eq!(norm.num_batches_tracked.to_vec().unwrap(), [0.0]);
    }

    #[test]
    fn a_single_row_cannot_be_trained_on() {
        let x = Tensor::from_vec(vec![5.0], (1, 1), &Tape::none()).unwrap();
        assert!(matches!(norm(1, false).forward(x, &context(true)), Err(Error::Value(_))));
    }

    #[test]
    fn its_names_are_those_of_pytorch_and_training_counts_batches() {
        let scope = Scope::new(0);
        let norm = BatchNorm::new(&scope.child("bn"), 2, 1e-5);
        let names: Vec<String> = scope.params().iter().map(|param| param.name().to_owned()).collect();
        let expected = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
        assert_eq!(names, expected.map(|name| format!("bn.{name}")));
        for training in [true, false] {
            let x = Tensor::from_vec(vec![1.0, 2.0, 3.0, 4.0], (2, 2), &Tape::none()).unwrap();
            norm.forward(x, &context(training)).unwrap();
        }
        let counter = &norm.num_batches_tracked;
        assert_eq!((counter.kind(), counter.to_vec().unwrap()), (ParamKind::Buffer, vec![1.0]));
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads| {
            on_threads(threads, || {
                let norm = norm(24, true);
                let x = noise(5, 8 * 16 * 16 * 24);
                run(&x, (8, 16, 16, 24), &trained(&norm), |x| norm.forward(x, &context(true)))
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }
}
