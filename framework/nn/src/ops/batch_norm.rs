//! Batch normalisation.

use crate::kernels::batch_norm::Moments;
use crate::tensor::{Error, Result, Tensor};
use crate::{Param, Tape};

#[cfg(feature = "cuda")]
use composed as implementation;
#[cfg(not(feature = "cuda"))]
use kernel as implementation;

/// The parameters of a batch normalisation of `C` channels, each `[C]`.
#[derive(Debug, Clone)]
pub struct BatchNormParams {
    /// The scale and the shift, unless it is without (`affine=False`).
    pub affine: Option<(Param, Param)>,
    /// The running mean.
    pub running_mean: Param,
    /// The running variance, unbiased.
    pub running_var: Param,
    /// How much a batch counts in the running statistics; 0.1 in PyTorch.
    pub momentum: f32,
    /// Added to the variance; 1e-5 in PyTorch.
    pub eps: f32,
}

impl BatchNormParams {
    /// Moves the running statistics towards those of a batch of `rows` rows.
    fn update_running(&self, batch: &Moments, rows: usize) {
        let unbiased = rows as f32 / (rows as f32 - 1.0);
        let towards = |running: &Param, batch: &[f32], factor: f32| {
            running.update(|running| {
                for (running, batch) in running.iter_mut().zip(batch) {
                    *running += self.momentum * (batch * factor - *running);
                }
            });
        };
        towards(&self.running_mean, &batch.mean, 1.0);
        towards(&self.running_var, &batch.var, unbiased);
    }

    fn running(&self) -> Moments {
        Moments { mean: self.running_mean.values().to_vec(), var: self.running_var.values().to_vec() }
    }
}

/// Normalises every channel (the last axis) of `x`, as PyTorch's `BatchNorm1d` and `BatchNorm2d` do.
///
/// In training by the mean and the biased variance of the batch, which also enter the running statistics (the variance
/// unbiased); otherwise by the running ones. The gradients of the
/// parameters are recorded on `tape`, also where `x` is a constant.
///
/// # Errors
/// If the channels do not fit, or in training with a single row, whose variance says nothing.
pub fn batch_norm(x: Tensor, params: &BatchNormParams, training: bool, tape: &Tape) -> Result<Tensor> {
    check(&x, params, training)?;
    implementation::batch_norm(x, params, training, tape)
}

fn check(x: &Tensor, params: &BatchNormParams, training: bool) -> Result<()> {
    let channels = params.running_mean.numel();
    if x.dims().last() != Some(&channels) || channels == 0 {
        return Err(Error::Shape(format!(
            "{}: {:?} does not have {channels} channels",
            params.running_mean.name(),
            x.shape()
        )));
    }
    if training && x.numel() == channels {
        return Err(Error::Value(format!(
            "{}: batch normalisation in training needs more than one row per channel; raise the batch size",
            params.running_mean.name()
        )));
    }
    let affine = params.affine.iter().flat_map(|(weight, bias)| [weight, bias]);
    for param in affine.chain([&params.running_mean, &params.running_var]) {
        if param.numel() != channels {
            return Err(Error::Shape(format!(
                "{}: {:?} for {channels} channels",
                param.name(),
                param.shape()
            )));
        }
        super::check_allocated(param)?;
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
mod kernel {

    use super::BatchNormParams;
    use crate::Tape;
    use crate::kernels::Buffer;
    use crate::kernels::batch_norm::{self as kernel, Moments};
    use crate::ops::operation_on;
    use crate::tensor::{Result, Tensor};

    pub fn batch_norm(x: Tensor, params: &BatchNormParams, training: bool, tape: &Tape) -> Result<Tensor> {
        let shape = x.shape();
        let params = params.clone();
        operation_on(tape, vec![x], shape, move |mut inputs, record| {
            let x = inputs.swap_remove(0);
            let channels = params.running_mean.numel();
            let rows = x.len() / channels;
            let moments = if training { Moments::of(&x, channels) } else { params.running() };
            if training {
                params.update_running(&moments, rows);
            }
            let inverse_std = moments.inverse_std(params.eps);
            let (weight, bias) = match &params.affine {
                Some((weight, bias)) => (weight.values().to_vec(), bias.values().to_vec()),
                None => (vec![1.0; channels], vec![0.0; channels]),
            };
            let scale: Vec<f32> = inverse_std.iter().zip(&weight).map(|(a, b)| a * b).collect();
            let mut output = Buffer::copy(&x);
            kernel::normalize(&mut output, &moments.mean, &scale, &bias);
            let backward = move |mut grad: Buffer| {
                let (shift, scale) = kernel::grad_affine(&x, &grad, &moments.mean, &inverse_std);
                if let Some((weight, bias)) = &params.affine {
                    weight.accumulate_grad(|sum, mode| mode.write(sum, &scale));
                    bias.accumulate_grad(|sum, mode| mode.write(sum, &shift));
                }
                let mean = |sums: Vec<f32>| sums.iter().map(|sum| sum / rows as f32).collect::<Vec<f32>>();
                let means = training.then(|| (mean(shift), mean(scale)));
                let means = means.as_ref().map(|(shift, scale)| (shift.as_slice(), scale.as_slice()));
                kernel::grad_input(&x, &mut grad, &moments.mean, &inverse_std, &weight, means);
                vec![grad]
            };
            Ok((output, record.then(|| Box::new(backward) as _)))
        })
    }
}

#[cfg(any(test, feature = "cuda"))]
mod composed {
    use dfdx::shapes::Axis;
    use dfdx::tensor::Merge as _;
    use dfdx::tensor_ops::{
        BroadcastTo as _, MeanTo as _, TryAdd as _, TryDiv as _, TryMul as _, TrySub as _,
    };

    use super::BatchNormParams;
    use crate::Tape;
    use crate::kernels::batch_norm::Moments;
    use crate::ops::rows::{T1, constant};
    use crate::tensor::{Result, Tensor};

    pub fn batch_norm(x: Tensor, params: &BatchNormParams, training: bool, tape: &Tape) -> Result<Tensor> {
        let shape = x.shape();
        let channels = params.running_mean.numel();
        let rows = (shape.numel() / channels, channels);
        let tape = x.tape().merge(tape.clone());
        let x = x.typed(rows)?;
        let (mean, var): (T1, T1) = if training {
            let mean: T1 = x.clone().try_mean::<_, Axis<0>>()?;
            let centered = x.clone().try_sub(mean.clone().try_broadcast_like::<_, Axis<0>>(&rows)?)?;
            let var: T1 = centered.try_square()?.try_mean::<_, Axis<0>>()?;
            let [mean_values, var_values] =
                [&mean, &var].map(|moment: &T1| Tensor::from_typed(moment.clone())?.to_vec());
            params.update_running(&Moments { mean: mean_values?, var: var_values? }, rows.0);
            (mean, var)
        } else {
            let running = params.running();
            (constant(running.mean, (channels,))?, constant(running.var, (channels,))?)
        };
        let std = var.try_add(params.eps)?.try_sqrt()?;
        let mut y = x
            .try_sub(mean.try_broadcast_like::<_, Axis<0>>(&rows)?)?
            .try_div(std.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        if let Some((weight, bias)) = &params.affine {
            y = y.try_mul(weight.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
            y = y.try_add(bias.tensor(&tape)?.try_broadcast_like::<_, Axis<0>>(&rows)?)?;
        }
        Tensor::from_typed(y)?.reshape(shape)
    }
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tensor::Tensor;
    use crate::testing::{
        assert_close, check_gradient, loss_weights, noise, noise_param, on_threads, run, wide,
    };

    fn params(channels: usize, affine: bool) -> BatchNormParams {
        let variances: Vec<f32> = noise(4, channels).iter().map(|value| 1.5 + value).collect();
        let running_var = noise_param(4, &[channels]);
        running_var.set(&variances).unwrap();
        BatchNormParams {
            affine: affine.then(|| (noise_param(1, &[channels]), noise_param(2, &[channels]))),
            running_mean: noise_param(3, &[channels]),
            running_var,
            momentum: 0.1,
            eps: 1e-5,
        }
    }

    fn trained(params: &BatchNormParams) -> Vec<&Param> {
        params.affine.iter().flat_map(|(weight, bias)| [weight, bias]).collect()
    }

    #[test]
    fn agrees_with_the_composition() {
        for (affine, training) in [(true, true), (true, false), (false, true), (false, false)] {
            let x: Vec<f32> = noise(5, 2 * 30 * 7).iter().map(|value| value + 3.0).collect();
            let (own, other) = (params(7, affine), params(7, affine));
            let shape = (2, 30, 7);
            let outcome = run(&x, shape, &trained(&own), |x| batch_norm(x, &own, training, &Tape::none()));
            let expected = run(&x, shape, &trained(&other), |x| {
                composed::batch_norm(x, &other, training, &Tape::none())
            });
            outcome.assert_close(&expected, 2e-5);
            assert_close(&own.running_mean.values(), &wide(&other.running_mean.values()), 1e-6);
            assert_close(&own.running_var.values(), &wide(&other.running_var.values()), 1e-6);
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let params = params(2, true);
        let x = noise(5, 12);
        let outcome = run(&x, (3, 2, 2), &trained(&params), |x| batch_norm(x, &params, true, &Tape::none()));
        check_gradient(&x, &outcome.grads[0], |x| {
            let (weight, bias) = params.affine.as_ref().unwrap();
            (0..2)
                .map(|channel| {
                    let column: Vec<f64> = x.iter().skip(channel).step_by(2).copied().collect();
                    let mean = column.iter().sum::<f64>() / 6.0;
                    let var = column.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 6.0;
                    let weights = loss_weights(12);
                    let terms =
                        column.iter().zip(weights.iter().skip(channel).step_by(2)).map(|(value, &loss)| {
                            let y =
                                (value - mean) / (var + 1e-5).sqrt() * f64::from(weight.values()[channel]);
                            (y + f64::from(bias.values()[channel])) * f64::from(loss)
                        });
                    terms.sum::<f64>()
                })
                .sum()
        });
    }

    #[test]
    fn running_statistics_take_a_tenth_of_the_batch_and_the_unbiased_variance() {
        let params = params(1, false);
        params.running_mean.set(&[1.0]).unwrap();
        params.running_var.set(&[1.0]).unwrap();
        let x = Tensor::from_vec(vec![0.0, 2.0, 4.0, 6.0], (4, 1), &Tape::none()).unwrap();
        batch_norm(x, &params, true, &Tape::none()).unwrap();
        // The batch has mean 3 and unbiased variance 20 / 3.
        assert_close(&params.running_mean.values(), &[1.2], 1e-6);
        assert_close(&params.running_var.values(), &[0.9 + 2.0 / 3.0], 1e-6);
    }

    #[test]
    fn evaluation_uses_and_keeps_the_running_statistics() {
        let params = params(1, false);
        params.running_mean.set(&[1.0]).unwrap();
        params.running_var.set(&[4.0]).unwrap();
        let x = Tensor::from_vec(vec![5.0], (1, 1), &Tape::none()).unwrap();
        assert_close(&batch_norm(x, &params, false, &Tape::none()).unwrap().to_vec().unwrap(), &[2.0], 1e-5);
        assert_eq!((params.running_mean.values()[0], params.running_var.values()[0]), (1.0, 4.0));
    }

    #[test]
    fn a_single_row_cannot_be_trained_on() {
        let x = Tensor::from_vec(vec![5.0], (1, 1), &Tape::none()).unwrap();
        assert!(matches!(batch_norm(x, &params(1, false), true, &Tape::none()), Err(Error::Value(_))));
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let outcome = |threads| {
            on_threads(threads, || {
                let params = params(24, true);
                let x = noise(5, 8 * 16 * 16 * 24);
                run(&x, (8, 16, 16, 24), &trained(&params), |x| batch_norm(x, &params, true, &Tape::none()))
            })
        };
        assert_eq!(outcome(1), outcome(3));
    }
}
