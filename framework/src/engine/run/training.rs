//! Training to the end: steps, and what is due between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::session::{Outcome, Session};
use super::signal::Stop;
use super::state::RunState;
use super::write::{write_report, write_summary};
use crate::component::Span;
use crate::data::{Batch, DataError};
use crate::engine::EngineError;
use crate::engine::evaluate::{Evaluation, Predictor};
use crate::engine::setup::position_grids::SavedGrids;
use crate::engine::setup::{Prepared, SplitReport, classes};
use crate::engine::together::{first, gather};
use crate::engine::train::checkpoint::{Checkpoint, Kind};
use crate::engine::train::{StepResult, UploadAhead};
use crate::experiment::Checkpointing;
use crate::report::logging::LOG_ONLY;
use crate::report::{
    ClassTable, ConfusionTable, EventLog, FeatureMap, PictureSet, Progress, Split, Status, StepReport,
};
use crate::weights::write_sealed;

impl Session {
    /// Trains to the end, or to a signal. A failure is written into the report before it is returned.
    pub fn train(mut self) -> Result<Outcome, EngineError> {
        match self.train_to_end() {
            Ok(interrupted) => Ok(self.outcome(interrupted)),
            Err(error) => {
                if self.is_first()
                    && let Err(second) = self.write_files(&Status::Failed(error.to_string()))
                {
                    tracing::warn!("the report of the failed run could not be written: {second}");
                }
                tracing::error!(target: LOG_ONLY, "{error}");
                Err(error)
            }
        }
    }

    /// What ended the run before its end.
    fn train_to_end(&mut self) -> Result<Option<Stop>, EngineError> {
        let plan = self.prepared.trainer.plan().clone();
        let start = self.prepared.trainer.steps_done();
        self.announce();
        if self.prepared.settings.logging.tensorboard {
            self.first(|session| {
                let mut events = EventLog::begin(&session.dir.tensorboard(), start + 1)?;
                events.describe(&session.dir.read_recipe()?, session.written.clone())?;
                session.events = Some(events);
                Ok(())
            })?;
        }
        let mut progress = match self.is_first() {
            true => Progress::new(plan.steps, start, plan.steps_per_epoch),
            false => Progress::hidden(),
        };
        let mut interrupted = None;
        if start == 0 {
            self.take_pictures(0)?;
            // From here on the directory tells what the run is of, and what it started from.
            self.first(|session| write_summary(session, &Status::Running))?;
        }
        while !self.is_at_end() && interrupted.is_none() {
            interrupted = self.epoch(&mut progress)?;
        }
        if interrupted.is_some() {
            self.save(Kind::Last)?;
            self.write(&Status::Interrupted)?;
            progress.finish();
        } else {
            self.finish(progress)?;
        }
        Ok(interrupted)
    }

    /// The rest of the current epoch. Returns what asks to stop.
    fn epoch(&mut self, progress: &mut Progress) -> Result<Option<Stop>, EngineError> {
        let plan = self.prepared.trainer.plan().clone();
        let position = plan.position(self.prepared.trainer.steps_done());
        let share = self.prepared.trainer.share();
        let epoch = self.prepared.train.epoch_of(share, position.epoch, position.batch as usize);
        let mut batches = UploadAhead(epoch);
        for _ in position.step..plan.steps_per_epoch {
            let stepped = self.step(&mut batches, progress);
            let interrupted = self.exchange(stepped)?;
            let step = self.prepared.trainer.steps_done();
            // Behind the last one `finish` does all of it.
            if step < plan.steps {
                self.periodic(step, progress)?;
            }
            if interrupted.is_some() || self.is_at_end() {
                self.settle(progress)?;
                return Ok(interrupted);
            }
        }
        Ok(None)
    }

    fn step(
        &mut self,
        batches: &mut impl Iterator<Item = Result<Batch, DataError>>,
        progress: &mut Progress,
    ) -> Result<(), EngineError> {
        let batches = batches.map(|batch| batch.map_err(EngineError::from));
        match self.prepared.trainer.step(batches) {
            Ok(result) => self.take_in(result.as_ref(), progress),
            Err(error) => {
                // The step before may be one that is told late, and comes first.
                self.settle(progress)?;
                Err(self.since_checkpoint(error))
            }
        }
    }

    /// Tells the other processes what they have to know between steps: whether one was asked to stop, and which samples are corrupt.
    fn exchange(&self, stepped: Result<(), EngineError>) -> Result<Option<Stop>, EngineError> {
        let communicator = self.communicator();
        if communicator.size() == 1 {
            return stepped.map(|()| self.stop.get());
        }
        let train = &self.prepared.train;
        let own = stepped.map(|()| (self.stop.get(), train.corrupt()));
        let told = gather(communicator.as_ref(), own)?;
        let mut interrupted = None;
        for (stop, corrupt) in told {
            interrupted = interrupted.max(stop);
            train.remember_corrupt(corrupt);
        }
        train.check_corrupt()?;
        Ok(interrupted)
    }

    /// What the first process does, while the others wait.
    fn first(&mut self, work: impl FnOnce(&mut Self) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let communicator = self.communicator();
        first(communicator.as_ref(), || work(self))
    }

    /// Waits for what the last step came to.
    fn settle(&mut self, progress: &mut Progress) -> Result<(), EngineError> {
        let result = self.prepared.trainer.wait().map_err(|error| self.since_checkpoint(error))?;
        self.take_in(result.as_ref(), progress)
    }

    /// An error of a step, with what is saved from before it.
    fn since_checkpoint(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::NotFinite { what, value, step, images, .. } => {
                EngineError::NotFinite { what, value, step, images, checkpoint: self.saved }
            }
            other => other,
        }
    }

    /// Counts, shows and logs what a step came to.
    fn take_in(&mut self, result: Option<&StepResult>, progress: &mut Progress) -> Result<(), EngineError> {
        let Some(result) = result else { return Ok(()) };
        let plan = self.prepared.trainer.plan();
        self.window.add(result, plan.images_of(result.step - 1));
        progress.step(&StepReport {
            step: result.step,
            epoch: plan.epoch_after(result.step),
            loss: result.loss,
            lr: result.lr,
            images_per_second: self.window.images_per_second(),
        });
        let is_due = result.step.is_multiple_of(self.prepared.settings.train.log_every);
        if is_due || result.step == plan.steps {
            let figures = self.window.take();
            self.record(result.step, Split::Train, &figures)?;
        }
        Ok(())
    }

    /// Evaluation and checkpoints that are due after a step.
    fn periodic(&mut self, step: u64, progress: &mut Progress) -> Result<(), EngineError> {
        let plan = self.prepared.trainer.plan();
        let due = |every: Span| step.is_multiple_of(every.steps(plan.steps_per_epoch).max(1));
        let evaluates = due(self.prepared.settings.evaluate_every);
        let Checkpointing { every, keep_every, .. } = self.prepared.settings.checkpoint;
        let saves = due(every) || keep_every.is_some_and(due);
        if !evaluates && !saves {
            return Ok(());
        }
        self.settle(progress)?;
        let mut kind = saves.then_some(Kind::Last);
        if evaluates {
            kind = self.evaluate()?.or(kind);
            self.take_pictures(step)?;
        }
        if let Some(kind) = kind {
            self.save(kind)?;
        }
        if evaluates {
            self.write(&Status::Running)?;
        }
        self.window.resume_clock();
        Ok(())
    }

    /// Evaluates, and tells as what to save the state if it is among the best so far that are kept.
    fn evaluate(&mut self) -> Result<Option<Kind>, EngineError> {
        let Prepared { trainer, val, measures, inference, settings, .. } = &mut self.prepared;
        let (Some(val), Some(first)) = (val.as_ref(), measures.first()) else { return Ok(None) };
        let communicator = trainer.communicator();
        let evaluation = trainer.with_evaluated(|model| {
            let predictor = Predictor { model, inference: inference.as_deref() };
            Evaluation::run(predictor, val, measures, settings.seed, communicator.as_ref(), None)
        })?;
        let step = trainer.steps_done();
        let epoch = trainer.plan().epoch_after(step);
        let (name, more_is_better) = first.evaluator.best();
        let figure = evaluation.get(name).filter(|value| value.is_finite());
        let better = figure.is_some_and(|value| match self.best {
            Some(best) if more_is_better => value > best,
            Some(best) => value < best,
            None => true,
        });
        if better {
            self.best = figure;
        }
        if let Some(early) = &mut self.early {
            early.take(step, &evaluation)?;
        }
        self.record(step, Split::Val, &evaluation.metrics)?;
        self.first(|session| {
            if !evaluation.classes.is_empty() {
                ClassTable { step, classes: evaluation.classes.clone() }.write(&session.dir.classes())?;
            }
            if let Some(confusion) = &evaluation.confusion {
                ConfusionTable { step, confusion: confusion.clone() }.write(&session.dir.confusion())?;
            }
            if let Some(map) = &evaluation.map {
                FeatureMap { step, ..map.clone() }.write(&session.dir.features())?;
            }
            Ok(())
        })?;
        let mut line = format!("epoch {epoch:.2}, step {step}: val");
        for (name, value) in &evaluation.metrics {
            let _ = write!(line, " {name} {value:.4}");
        }
        tracing::info!("{line}");
        self.evaluation = evaluation;
        let kept = self.prepared.settings.checkpoint.keep_best;
        let is_kept = self.rank().iter().take(kept).any(|&kept| kept == step);
        Ok(better.then_some(Kind::Best).or(is_kept.then_some(Kind::Last)))
    }

    fn finish(&mut self, progress: Progress) -> Result<(), EngineError> {
        let step = self.prepared.trainer.steps_done();
        if let Some(reason) = self.ended_early() {
            let steps = self.prepared.trainer.plan().steps;
            tracing::info!("stopped early, after step {step} of {steps}: {reason}");
        }
        let kind = if self.is_evaluated(step) { None } else { self.evaluate()? };
        self.take_pictures(step)?;
        self.save(kind.unwrap_or(Kind::Last))?;
        self.first(|session| {
            let weights = session.prepared.trainer.weights()?;
            write_sealed(&session.dir.weights(), &weights, &session.weights_metadata())?;
            Ok(())
        })?;
        self.write(&Status::Finished)?;
        progress.finish();
        Ok(())
    }

    /// What the final weights say of themselves.
    fn weights_metadata(&self) -> BTreeMap<String, String> {
        let prepared = &self.prepared;
        let mut metadata = classes::metadata(prepared.train.pipeline().samples.as_ref());
        metadata.extend([SavedGrids::of_params(&prepared.trainer.model.params()).entry()]);
        metadata
    }

    /// Whether a step was evaluated before the run was resumed there.
    fn is_evaluated(&self, step: u64) -> bool {
        let last = |name: &str| self.metrics.series(Split::Val, name).last().map(|point| point.step);
        self.metrics.names(Split::Val).into_iter().any(|name| last(name) == Some(step))
    }

    /// Saves a checkpoint. No process goes on before it is there.
    fn save(&mut self, kind: Kind) -> Result<(), EngineError> {
        let step = self.prepared.trainer.steps_done();
        // Saved again it would have another digest, and no longer be the best.
        if kind == Kind::Last && self.saved == step {
            return Ok(());
        }
        self.first(|session| session.write_checkpoint(kind))?;
        self.saved = step;
        Ok(())
    }

    fn write_checkpoint(&mut self, kind: Kind) -> Result<(), EngineError> {
        let trainer = &self.prepared.trainer;
        // Before the checkpoint: what is logged beyond it is cut off when resuming, what is missing would be
        // lost.
        let metrics = self.metrics.write(&self.dir.metrics())?;
        self.events.iter_mut().try_for_each(EventLog::flush)?;
        let (corrupt_train, corrupt_val) = self.prepared.corrupt();
        let finite = |(name, value): &(String, f64)| (name.clone(), value.is_finite().then_some(*value));
        let state = RunState {
            samples: self.prepared.train.pipeline().samples.len(),
            normalized_together: trainer.normalized_together(),
            seconds: self.seconds(),
            best: self.best,
            waited: self.early.as_ref().map(|early| early.waited.clone()).unwrap_or_default(),
            evaluation: self.evaluation.metrics.iter().map(finite).collect(),
            recipe: self.dir.read_recipe().ok(),
            metrics: Some(BASE64_STANDARD.encode(metrics)),
            window: self.window.sums().clone(),
            init_from_digest: self.init_from_digest.clone(),
            index_digests: self.prepared.index_digests.clone(),
            corrupt_train,
            corrupt_val,
        };
        let state = serde_json::to_value(&state).unwrap_or_default();
        let checkpoint = Checkpoint { step: trainer.steps_done(), tensors: trainer.tensors()?, state };
        let path = self.store.save(&checkpoint, kind)?;
        tracing::debug!("saved {}", path.display());
        Ok(())
    }

    /// Tells a person how the run stands.
    fn write(&mut self, status: &Status) -> Result<(), EngineError> {
        self.first(|session| session.write_files(status))
    }

    /// The files that tell it, of the first process.
    pub fn write_files(&mut self, status: &Status) -> Result<(), EngineError> {
        self.events.iter_mut().try_for_each(EventLog::flush)?;
        self.metrics.write(&self.dir.metrics())?;
        write_report(self, status)
    }

    /// Logs figures of a step.
    fn record(&mut self, step: u64, split: Split, figures: &[(String, f64)]) -> Result<(), EngineError> {
        let (epoch, seconds) = (self.prepared.trainer.plan().epoch_after(step), self.seconds());
        for (name, value) in figures {
            self.metrics.push(step, epoch, split, name, *value, seconds);
        }
        if !self.prepared.settings.logging.tensorboard {
            return Ok(());
        }
        self.first(|session| {
            session.events.as_mut().map_or(Ok(()), |events| Ok(events.record(step, split, figures)?))
        })
    }

    /// Pictures of the first validation images, the same ones and the same masks every time.
    fn take_pictures(&mut self, step: u64) -> Result<(), EngineError> {
        self.first(|session| {
            if session.pictured.is_none() {
                session.pictured = Some(session.prepared.pictured()?);
            }
            let Some(batches) = &session.pictured else { return Ok(()) };
            let rows = session.prepared.pictures(batches)?;
            if !rows.is_empty() {
                let set = PictureSet { step, rows };
                session.pictures_store().save(&set)?;
                session.events.iter_mut().try_for_each(|events| events.pictures(&set))?;
            }
            Ok(())
        })
    }

    fn announce(&self) {
        let (summary, plan) = (&self.prepared.summary, self.prepared.trainer.plan());
        tracing::info!(
            "{}: {:.2} M parameters, {:.3} GMACs per image; {} steps of {} images ({:.2} epochs); {}",
            self.prepared.settings.name,
            summary.parameters as f64 / 1e6,
            summary.macs.computed as f64 / 1e9,
            plan.steps,
            plan.images_per_step,
            plan.epoch_after(plan.steps),
            self.dir.root().display(),
        );
        self.prepared.data.iter().for_each(SplitReport::log);
    }
}
