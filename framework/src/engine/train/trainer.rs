//! One optimizer step after another.

use std::rc::Rc;

use crate::component::{Loss, OptimizerModule, ParameterGroup, Schedule};
use crate::data::Batch;
use crate::distributed::{Communicator, Reduction};
use crate::experiment::Ema;
use crate::graph::Model;
use crate::loader::Share;
use crate::nn::backend::Values;
use crate::nn::backend::step_end::{IS_LATE, Readback, StepEnd};
use crate::nn::backward::backward;
use crate::nn::completion::Completion;
use crate::nn::layers::running_statistics::{self, BatchStatistics};
use crate::nn::layers::shared_statistics;
use crate::nn::{Context, Error, Param, Tensor, profile};
use crate::random::{self, Purpose};
use crate::weights::TensorMap;

use super::ema::EmaState;
use super::exchange::Exchange;
use super::gradient_sum::GradientSum;
use super::meeting::Meeting;
use super::plan::TrainingPlan;
use super::queued::{Queued, QueuedBatch, StepResult};
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
    reduction: Reduction,
    sync: bool,
    step: u64,
    end: StepEnd,
    /// The last step, if its result is not known.
    queued: Option<Queued>,
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
    /// In which order gradients are added up.
    pub reduction: Reduction,
    /// Whether processes share statistics of the batches that they normalise at the same time.
    pub sync: bool,
}

/// A step that was begun.
enum Begun {
    /// The device has told what it came to.
    Done(StepResult),
    /// It will.
    Queued(Queued),
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
            reduction: parts.reduction,
            sync: parts.sync,
            step: 0,
            end: StepEnd::new()?,
            queued: None,
        })
    }

    /// With processes that share the batches of every step.
    #[must_use]
    pub fn among(self, communicator: Rc<dyn Communicator>) -> Self {
        Self { communicator, ..self }
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

    /// In which order gradients are added up.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// Processes whose batches are normalised together.
    pub fn normalized_together(&self) -> usize {
        if self.sync { self.communicator.size() } else { 1 }
    }

    /// Which batches of every step this process takes: consecutive ones, so that gradients are added up in their order. Where processes
    /// share statistics, those that are normalised at the same time are consecutive: as one batch of one process.
    pub fn share(&self) -> Share {
        let (rank, size) = (self.communicator.rank(), self.communicator.size());
        Share::of_groups(rank, size, if self.sync { size } else { self.plan.accumulate as usize })
    }

    /// One optimizer step over `plan.accumulate` batches, or over what is left of an epoch; of several processes each takes its
    /// [`share`](Self::share) of them. What is random about an image depends on its number among those of the step,
    /// not on how these are cut into batches.
    ///
    /// Returns what the step came to, or where the device tells that late ([`IS_LATE`]) what the step before
    /// came to: [`wait`](Self::wait) has to be called behind the last one, and before anything is read.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite: neither that step nor any behind it has changed parameters, and
    /// [`steps_done`](Self::steps_done) are those before it. An error of a batch, or of the device.
    pub fn step(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
    ) -> Result<Option<StepResult>, EngineError> {
        match self.begin(batches, |ctx| ctx)? {
            Begun::Done(result) => Ok(Some(result)),
            Begun::Queued(queued) => {
                let before = self.queued.replace(queued);
                before.map(|queued| self.result(queued)).transpose()
            }
        }
    }

    /// As [`step`](Self::step), with `prepare` adding to the context of every batch; waits for what it comes to.
    pub fn step_with(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
        prepare: impl Fn(Context) -> Context,
    ) -> Result<StepResult, EngineError> {
        match self.begin(batches, prepare)? {
            Begun::Done(result) => Ok(result),
            Begun::Queued(queued) => self.result(queued),
        }
    }

    /// Waits for what the last step comes to, if that is not known.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn wait(&mut self) -> Result<Option<StepResult>, EngineError> {
        self.queued.take().map(|queued| self.result(queued)).transpose()
    }

    fn begin(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
        prepare: impl Fn(Context) -> Context,
    ) -> Result<Begun, EngineError> {
        let lr = self.lr(self.step);
        self.params.iter().for_each(Param::clear_grad);
        let done = if self.communicator.size() == 1 {
            self.backward(batches, prepare, None)?
        } else {
            let meeting = Rc::new(Meeting::new(self.communicator()));
            let exchange = Rc::new(Exchange::new(&self.params, self.communicator(), self.reduction));
            let (own, statistics) = running_statistics::collect(|| {
                shared_statistics::among(meeting.clone(), || self.backward(batches, prepare, Some(&exchange)))
            });
            self.reduce(&meeting, &exchange, own, statistics)?
        };
        let _span = profile::phase("optimizer");
        let queued = Queued { step: self.step, lr, readback: self.end_step(&done)?, batches: done };
        // What is known at once is looked at before anything changes.
        let begun = if IS_LATE { Begun::Queued(queued) } else { self.result(queued).map(Begun::Done)? };
        self.optimizer.step(lr, self.end.scale())?;
        Param::refresh_operands(&self.params)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&self.params)?;
        }
        self.step += 1;
        Ok(begun)
    }

    /// Forward and backward of this process's batches of a step. While the last backward runs, gradients that are complete go out.
    fn backward(
        &self,
        batches: impl Iterator<Item = Result<Batch, EngineError>>,
        prepare: impl Fn(Context) -> Context,
        exchange: Option<&Rc<Exchange>>,
    ) -> Result<Vec<QueuedBatch>, EngineError> {
        let (own, share) = (self.plan.accumulate as usize / self.communicator.size(), self.share());
        let batch_size = self.plan.images_per_step / self.plan.accumulate as usize;
        let sum = Rc::new(GradientSum::new(&self.params, self.reduction, own));
        let mut done = Vec::with_capacity(own);
        for (at, batch) in batches.take(own).enumerate() {
            let batch = batch?;
            let rng = random::stream(Purpose::Step, &[self.seed, self.step]);
            let image = (share.number(at) * batch_size) as u64;
            let mut ctx = prepare(Context::train(rng).with_first_image(image));
            ctx.checkpoint_activations = self.checkpoint_activations;
            let is_last = at + 1 == own;
            let completion = exchange.filter(|_| is_last).map(|exchange| self.completion(&sum, exchange));
            let (total, of_batch) = {
                let _span = profile::phase("forward");
                self.forward(&batch, &ctx)?
            };
            let _span = profile::phase("backward");
            match completion {
                Some(completion) => completion.watch(|| backward(total))?,
                None => backward(total)?,
            };
            sum.add()?;
            done.push(QueuedBatch { ids: batch.ids, ..of_batch });
        }
        let _span = profile::phase("backward");
        sum.finish()?;
        Ok(done)
    }

    /// What gives out gradients of the last batch as soon as they are complete.
    fn completion(&self, sum: &Rc<GradientSum>, exchange: &Rc<Exchange>) -> Completion {
        let (sum, exchange) = (Rc::clone(sum), Rc::clone(exchange));
        Completion::before_forward(&self.params, move |place| {
            exchange.complete(place, sum.add_last(place));
        })
    }

    /// Adds up the gradients of all processes, once all have theirs, and takes in the statistics of their batches.
    fn reduce(
        &self,
        meeting: &Meeting,
        exchange: &Exchange,
        own: Result<Vec<QueuedBatch>, EngineError>,
        statistics: Vec<BatchStatistics>,
    ) -> Result<Vec<QueuedBatch>, EngineError> {
        let own = own.and_then(|done| Ok((done, exchange.close()?)));
        let (done, own) = match own {
            Ok((done, present)) => (done, Ok((present, statistics))),
            Err(error) => (Vec::new(), Err(error)),
        };
        let all = {
            let _span = profile::phase("wait");
            meeting.end(own)
        };
        let _span = profile::phase("exchange");
        let all = match all {
            Ok(all) => all,
            Err(error) => {
                exchange.abandon()?;
                return Err(error);
            }
        };
        let (present, statistics): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        exchange.finish(&present)?;
        running_statistics::apply(&statistics.concat(), &self.params)?;
        Ok(done)
    }

    /// Ends a step over these batches.
    fn end_step(&mut self, batches: &[QueuedBatch]) -> Result<Readback, EngineError> {
        let grads: Vec<_> = self.params.iter().filter_map(Param::grad).collect();
        let grads: Vec<&Values> = grads.iter().map(|grad| &**grad).collect();
        let losses: Vec<&Values> = batches.iter().flat_map(QueuedBatch::values).collect();
        Ok(self.end.finish(&grads, &losses, self.clip_grad_norm)?)
    }

    fn result(&mut self, queued: Queued) -> Result<StepResult, EngineError> {
        let step = queued.step;
        let result = queued.result(&mut self.end, self.communicator.as_ref());
        if result.is_err() {
            // What was given to the device behind it is void.
            self.queued = None;
            self.step = step;
        }
        result
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

    /// The weighted sum of the losses of a batch, as its part of the mean over the step's images.
    fn forward(&self, batch: &Batch, ctx: &Context) -> Result<(Tensor, QueuedBatch), EngineError> {
        let images = self.plan.images_of(self.step);
        let share = batch.len() as f64 / images as f64;
        let outputs = self.model.forward(batch, ctx)?;
        let losses = self.model.losses(&outputs, batch, ctx)?;
        if let Some(Loss { name, value, .. }) = losses.iter().find(|loss| loss.value.numel() != 1) {
            let message =
                format!("the loss {name} is not a single value, but of the shape {:?}", value.dims());
            return Err(Error::Shape(message).into());
        }
        let kept = |loss: &Loss| Loss { value: loss.value.detach(), ..loss.clone() };
        let of_batch = QueuedBatch { ids: Vec::new(), share, losses: losses.iter().map(kept).collect() };
        let total = Loss::total(losses)?
            .ok_or_else(|| EngineError::Usage("there is no loss with a weight to train on".to_owned()))?;
        let total = if batch.len() == images { total } else { (total * share as f32)? };
        Ok((total, of_batch))
    }
}
