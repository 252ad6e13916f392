//! One optimizer step after another.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::component::{Loss, OptimizerModule, ParameterGroup, Schedule};
use crate::data::Batch;
use crate::distributed::Communicator;
use crate::experiment::Ema;
use crate::graph::Model;
use crate::metrics::state;
use crate::nn::backward::backward;
use crate::nn::{Context, Error, Param, Tensor, profile};
use crate::random::{self, Purpose};
use crate::weights::TensorMap;

use super::ema::EmaState;
use super::gradient;
use super::plan::TrainingPlan;
use super::tensors::{param_tensors, restore_params};
use crate::engine::EngineError;

/// A model with what trains it.
pub struct Trainer {
    /// The model.
    pub model: Model,
    params: Vec<Param>,
    optimizer: Box<dyn OptimizerModule>,
    schedule: Box<dyn Schedule>,
    base_lr: f64,
    plan: TrainingPlan,
    clip_grad_norm: Option<f64>,
    ema: Option<EmaState>,
    checkpoint_activations: bool,
    seed: u64,
    communicator: Rc<dyn Communicator>,
    step: u64,
}

/// What the trainer is made of.
pub struct TrainerParts {
    /// The model, with values.
    pub model: Model,
    /// Its optimizer.
    pub optimizer: Box<dyn OptimizerModule>,
    /// The learning rate over time.
    pub schedule: Box<dyn Schedule>,
    /// The learning rate before the schedule.
    pub base_lr: f64,
    /// The arithmetic of the run.
    pub plan: TrainingPlan,
    /// Largest norm of the gradient.
    pub clip_grad_norm: Option<f64>,
    /// The moving average of the parameters.
    pub ema: Option<Ema>,
    /// Whether blocks keep their inputs alone for the backward.
    pub checkpoint_activations: bool,
    /// Seed of masks, dropout and stochastic depth.
    pub seed: u64,
    /// The processes that train the model.
    pub communicator: Rc<dyn Communicator>,
}

/// The losses of a batch, each as its part of the mean over the step's batches.
#[derive(Serialize, Deserialize)]
struct Losses {
    total: f64,
    named: Vec<(String, f64)>,
}

/// What a step yields besides new parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The weighted sum of the losses, averaged over the step's batches.
    pub loss: f64,
    /// The losses by name, averaged likewise.
    pub losses: Vec<(String, f64)>,
    /// The learning rate of the step.
    pub lr: f64,
    /// L2 norm of the gradient, before clipping.
    pub grad_norm: f64,
}

impl Trainer {
    /// A trainer at step 0.
    ///
    /// # Errors
    /// If the device has no memory for the moving average.
    pub fn new(parts: TrainerParts) -> Result<Self, Error> {
        let params = parts.model.params();
        Ok(Self {
            ema: parts.ema.map(|ema| EmaState::new(&params, ema.decay)).transpose()?,
            params,
            model: parts.model,
            optimizer: parts.optimizer,
            schedule: parts.schedule,
            base_lr: parts.base_lr,
            plan: parts.plan,
            clip_grad_norm: parts.clip_grad_norm,
            checkpoint_activations: parts.checkpoint_activations,
            seed: parts.seed,
            communicator: parts.communicator,
            step: 0,
        })
    }

    /// Optimizer steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The arithmetic of the run.
    pub fn plan(&self) -> &TrainingPlan {
        &self.plan
    }

    /// The learning rate of a step.
    pub fn lr(&self, step: u64) -> f64 {
        self.schedule.lr(self.base_lr, self.plan.progress(step))
    }

    /// The optimizer's groups.
    pub fn groups(&self) -> Vec<ParameterGroup> {
        self.optimizer.groups()
    }

    /// The processes that train the model.
    pub fn communicator(&self) -> Rc<dyn Communicator> {
        Rc::clone(&self.communicator)
    }

    /// One optimizer step over `plan.accumulate` batches, or over what is left of an epoch; of several processes each takes an equal share of
    /// them, in order of rank. What is random about an image depends on its number among those of the step,
    /// not on how these are cut into batches. A loss or a gradient that is not finite leaves the parameters
    /// as they were.
    pub fn step(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
    ) -> Result<StepResult, EngineError> {
        self.step_with(batches, |ctx| ctx)
    }

    /// As [`step`](Self::step), with `prepare` adding to the context of every batch.
    pub fn step_with(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
        prepare: impl Fn(Context) -> Context,
    ) -> Result<StepResult, EngineError> {
        let lr = self.lr(self.step);
        self.params.iter().for_each(Param::clear_grad);
        let processes = self.communicator.size();
        let first_image = self.plan.images_per_step / processes * self.communicator.rank();
        let (mut images, mut losses) = (Vec::new(), Vec::new());
        for batch in batches.take(self.plan.accumulate as usize / processes) {
            let batch = batch?;
            let rng = random::stream(Purpose::Step, &[self.seed, self.step]);
            let first_image = (first_image + images.len()) as u64;
            let mut ctx = prepare(Context::train(rng).with_first_image(first_image));
            ctx.checkpoint_activations = self.checkpoint_activations;
            let (total, of_batch) = {
                let _span = profile::phase("forward");
                self.forward(&batch, &ctx)?
            };
            let _span = profile::phase("backward");
            backward(total)?;
            images.extend(batch.ids);
            losses.push(of_batch);
        }
        let mut result = self.reduce(&losses, lr)?;
        let _span = profile::phase("optimizer");
        result.grad_norm = gradient::norm(&self.params)?;
        self.check_finite(|| "the norm of the gradient".to_owned(), result.grad_norm, &images)?;
        if let Some(max_norm) = self.clip_grad_norm {
            gradient::clip(&self.params, result.grad_norm, max_norm)?;
        }
        self.optimizer.step(lr)?;
        Param::refresh_operands(&self.params)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.params)?;
        }
        self.step += 1;
        Ok(result)
    }

    /// Runs `evaluate` with the parameters that are evaluated: the moving average if there is one.
    pub fn with_evaluated<R>(&mut self, evaluate: impl FnOnce(&Model) -> R) -> R {
        match &mut self.ema {
            Some(ema) => ema.swapped(&self.params, || evaluate(&self.model)),
            None => evaluate(&self.model),
        }
    }

    /// The parameters that are evaluated, by name.
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&self) -> Result<TensorMap, Error> {
        self.ema.as_ref().map_or_else(|| param_tensors(&self.params), |ema| ema.tensors(&self.params))
    }

    /// Everything that a checkpoint holds: `model.*`, `optimizer.*`, `ema.*`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensors(&self) -> Result<TensorMap, Error> {
        let mut all = TensorMap::new();
        let ema = self.ema.as_ref().map(|ema| ema.tensors(&self.params)).transpose()?.unwrap_or_default();
        for (prefix, tensors) in
            [("model", param_tensors(&self.params)?), ("optimizer", self.optimizer.state()?), ("ema", ema)]
        {
            for (name, tensor) in tensors {
                all.insert(format!("{prefix}.{name}"), tensor);
            }
        }
        Ok(all)
    }

    /// Continues from a checkpoint after `step` steps.
    pub fn restore(&mut self, step: u64, tensors: TensorMap) -> Result<(), EngineError> {
        let (model, rest) = tensors.split_prefix("model.");
        let (optimizer, rest) = rest.split_prefix("optimizer.");
        let (ema, _) = rest.split_prefix("ema.");
        restore_params(&self.params, &model)?;
        self.optimizer.load_state(&optimizer)?;
        if let Some(own) = &mut self.ema {
            own.restore(&self.params, &ema)?;
        }
        self.step = step;
        Ok(())
    }

    fn check_finite(
        &self,
        what: impl FnOnce() -> String,
        value: f64,
        images: &[String],
    ) -> Result<(), EngineError> {
        const NAMED: usize = 8;
        if value.is_finite() {
            return Ok(());
        }
        let names = images[..images.len().min(NAMED)].join(", ");
        let images = match images.len().saturating_sub(NAMED) {
            0 => names,
            more => format!("{names} and {more} more"),
        };
        Err(EngineError::NotFinite { what: what(), value, step: self.step, images, checkpoint: 0 })
    }

    /// Adds up the gradients of all processes, and their losses in the order of the step's batches.
    fn reduce(&self, own: &[Losses], lr: f64) -> Result<StepResult, EngineError> {
        gradient::all_reduce(&self.params, self.communicator.as_ref())?;
        let mut result = StepResult { loss: 0.0, losses: Vec::new(), lr, grad_norm: 0.0 };
        for of_process in self.communicator.all_gather(&state::write(&own))? {
            let of_process: Vec<Losses> = state::read(&of_process)?;
            for Losses { total, named } in of_process {
                result.loss += total;
                for (name, loss) in named {
                    match result.losses.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, sum)) => *sum += loss,
                        None => result.losses.push((name, loss)),
                    }
                }
            }
        }
        Ok(result)
    }

    /// The weighted sum of the losses of a batch, as its part of the mean over the step's images.
    fn forward(&self, batch: &Batch, ctx: &Context) -> Result<(Tensor, Losses), EngineError> {
        let share = batch.len() as f64 / self.plan.images_of(self.step) as f64;
        let outputs = self.model.forward(batch, ctx)?;
        let losses = self.model.losses(&outputs, batch, ctx)?;
        let mut parts = Losses { total: 0.0, named: Vec::new() };
        for Loss { name, weight, value } in &losses {
            let loss = f64::from(value.to_vec()?[0]);
            self.check_finite(|| format!("the loss {name}"), loss, &batch.ids)?;
            parts.total += f64::from(*weight) * loss * share;
            parts.named.push((name.clone(), loss * share));
        }
        let total = Loss::total(losses)?
            .ok_or_else(|| EngineError::Usage("there is no loss with a weight to train on".to_owned()))?;
        let total =
            if batch.len() == self.plan.images_of(self.step) { total } else { (total * share as f32)? };
        Ok((total, parts))
    }
}
