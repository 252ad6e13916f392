//! A run in progress: steps, and what is due between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::component::Span;
use crate::data::{Batch, DataError};
use crate::nn;
use crate::recipe::Recipe;
use crate::report::logging::LOG_ONLY;
use crate::report::{
    Environment, EventLog, MetricLog, PictureSet, PictureStore, Progress, RunDir, Split, Status, StepReport,
};

use super::signal::StopSignal;
use super::state::RunState;
use super::write::write_report;
use crate::engine::EngineError;
use crate::engine::evaluate::{Evaluation, Predictor};
use crate::engine::setup::position_grids::SavedGrids;
use crate::engine::setup::{Prepared, classes};
use crate::engine::train::checkpoint::{Checkpoint, CheckpointStore, Kind};
use crate::engine::train::{StepResult, Sums, Window};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The run directory.
    pub run: PathBuf,
    /// Optimizer steps done.
    pub step: u64,
    /// Whether it was stopped by a signal before its end.
    pub interrupted: bool,
    /// The last evaluation.
    pub evaluation: Evaluation,
}

/// A run in progress.
pub struct Session {
    pub prepared: Prepared,
    pub dir: RunDir,
    pub metrics: MetricLog,
    pub evaluation: Evaluation,
    pub digest: String,
    /// What stands for the run whose weights it started from, if it did.
    pub init_from_digest: Option<String>,
    pub environment: Environment,
    store: CheckpointStore,
    pub stop: StopSignal,
    pub best: Option<f64>,
    /// Seconds of earlier sessions.
    seconds_before: f64,
    started: Instant,
    saved: u64,
    /// The images that the report shows, once they are read.
    pictured: Option<Vec<Batch>>,
    window: Window,
    events: Option<EventLog>,
}

impl Session {
    /// A run at its first step.
    pub fn new(prepared: Prepared, dir: RunDir, recipe: &Recipe) -> Result<Self, EngineError> {
        let store = CheckpointStore::open(dir.checkpoints())?.with_keep(prepared.settings.checkpoint.keep);
        Ok(Self {
            store,
            stop: StopSignal::listen().map_err(EngineError::Signals)?,
            metrics: MetricLog::default(),
            evaluation: Evaluation::default(),
            digest: recipe.digest(),
            init_from_digest: prepared.init_from_digest(),
            environment: Environment::collect(&nn::device::describe()?, rayon::current_num_threads()),
            best: None,
            seconds_before: 0.0,
            started: Instant::now(),
            saved: 0,
            pictured: None,
            window: Window::new(Sums::default()),
            events: None,
            prepared,
            dir,
        })
    }

    /// Goes back to the last intact checkpoint; a run that has none starts anew.
    pub fn restore(&mut self) -> Result<(), EngineError> {
        let Some(loaded) = self.store.load_last()? else {
            tracing::info!("no checkpoint yet in {}: from the start", self.dir.root().display());
            return Ok(());
        };
        for refusal in &loaded.refused {
            tracing::warn!("checkpoint refused: {refusal}; the one before it is used");
        }
        let Checkpoint { step, tensors, state } = loaded.checkpoint;
        let state: RunState = serde_json::from_value(state).map_err(|error| {
            EngineError::Usage(format!("the checkpoint of step {step} has another state: {error}"))
        })?;
        self.refuse_other_data(&state)?;
        self.prepared.trainer.restore(step, tensors)?;
        self.prepared.restore_corrupt(state.corrupt_train, state.corrupt_val);
        (self.best, self.seconds_before, self.saved) = (state.best, state.seconds, step);
        self.init_from_digest = state.init_from_digest;
        self.window = Window::new(state.window);
        let metrics = state.evaluation.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN)));
        self.evaluation = Evaluation { metrics: metrics.collect() };
        if self.dir.metrics().is_file() {
            self.metrics = MetricLog::open(&self.dir.metrics())?;
            self.metrics.truncate_after(step);
        }
        self.pictures_store().truncate_after(step)?;
        tracing::info!("resumed at step {step} of {}", self.prepared.trainer.plan().steps);
        Ok(())
    }

    /// Refuses to go on with another number of samples: order and length of epochs would be others.
    fn refuse_other_data(&self, state: &RunState) -> Result<(), EngineError> {
        let samples = self.prepared.train.pipeline().samples.len();
        if samples == state.samples {
            return Ok(());
        }
        Err(EngineError::Usage(format!(
            "the training set has {samples} samples, it had {} when the checkpoint was saved; start a new run with `--out`",
            state.samples
        )))
    }

    /// Trains to the end, or to a signal. A failure is written into the report before it is returned.
    pub fn train(mut self) -> Result<Outcome, EngineError> {
        match self.train_to_end() {
            Ok(interrupted) => Ok(self.outcome(interrupted)),
            Err(error) => {
                if let Err(second) = self.write(&Status::Failed(error.to_string())) {
                    tracing::warn!("the report of the failed run could not be written: {second}");
                }
                tracing::error!(target: LOG_ONLY, "{error}");
                Err(error)
            }
        }
    }

    /// How the run ended.
    pub fn outcome(self, interrupted: bool) -> Outcome {
        Outcome {
            run: self.dir.root().to_path_buf(),
            step: self.prepared.trainer.steps_done(),
            interrupted,
            evaluation: self.evaluation,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_finished(&self) -> bool {
        let trainer = &self.prepared.trainer;
        trainer.steps_done() == trainer.plan().steps && self.dir.weights().is_file() && self.dir.is_finished()
    }

    /// Whether a signal ended the run.
    fn train_to_end(&mut self) -> Result<bool, EngineError> {
        let plan = *self.prepared.trainer.plan();
        let start = self.prepared.trainer.steps_done();
        self.announce();
        if self.prepared.settings.logging.tensorboard {
            self.events = Some(EventLog::begin(&self.dir.tensorboard(), start + 1)?);
        }
        let mut progress = Progress::new(plan.steps, start, plan.steps_per_epoch);
        let mut interrupted = false;
        if start == 0 {
            self.take_pictures(0)?;
        }
        while self.prepared.trainer.steps_done() < plan.steps && !interrupted {
            interrupted = self.epoch(&mut progress)?;
        }
        if interrupted {
            self.save(Kind::Last)?;
            self.write(&Status::Interrupted)?;
            progress.finish();
        } else {
            self.finish(progress)?;
        }
        Ok(interrupted)
    }

    /// The rest of the current epoch. Returns whether a signal asks to stop.
    fn epoch(&mut self, progress: &mut Progress) -> Result<bool, EngineError> {
        let plan = *self.prepared.trainer.plan();
        let position = plan.position(self.prepared.trainer.steps_done());
        let mut batches = self.prepared.train.epoch(position.epoch, position.batch as usize);
        for _ in position.step..plan.steps_per_epoch {
            let result = self.step(&mut batches)?;
            let step = self.prepared.trainer.steps_done();
            self.window.add(&result, plan.images_per_step);
            progress.step(&StepReport {
                step,
                epoch: plan.epoch_after(step),
                loss: result.loss,
                lr: result.lr,
                images_per_second: self.window.images_per_second(),
            });
            if step.is_multiple_of(self.prepared.settings.train.log_every) || step == plan.steps {
                self.log_window()?;
            }
            self.periodic(step)?;
            if self.stop.is_set() {
                return Ok(true);
            }
            if step == plan.steps {
                break;
            }
        }
        Ok(false)
    }

    fn step(
        &mut self,
        batches: &mut impl Iterator<Item = Result<Batch, DataError>>,
    ) -> Result<StepResult, EngineError> {
        let result = self.prepared.trainer.step(batches.map(|batch| batch.map_err(EngineError::from)));
        result.map_err(|error| match error {
            EngineError::NotFinite { what, value, step, images, .. } => {
                EngineError::NotFinite { what, value, step, images, checkpoint: self.saved }
            }
            other => other,
        })
    }

    /// Evaluation and checkpoints that are due after a step.
    fn periodic(&mut self, step: u64) -> Result<(), EngineError> {
        let plan = *self.prepared.trainer.plan();
        let due = |every: Span| step.is_multiple_of(every.steps(plan.steps_per_epoch).max(1));
        if step == plan.steps {
            return Ok(()); // `finish` does all of it.
        }
        let mut kind = None;
        if due(self.prepared.settings.evaluate_every) {
            if self.evaluate()? {
                kind = Some(Kind::Best);
            }
            self.take_pictures(step)?;
        }
        if due(self.prepared.settings.checkpoint.every) {
            kind = kind.or(Some(Kind::Last));
        }
        if let Some(kind) = kind {
            self.save(kind)?;
        }
        if due(self.prepared.settings.evaluate_every) {
            self.write(&Status::Running)?;
        }
        if kind.is_some() || due(self.prepared.settings.evaluate_every) {
            self.window.resume_clock();
        }
        Ok(())
    }

    /// Evaluates, and tells whether this is the best so far.
    fn evaluate(&mut self) -> Result<bool, EngineError> {
        let Prepared { trainer, val, evaluators, inference, settings, .. } = &mut self.prepared;
        let (Some(val), Some(first)) = (val.as_ref(), evaluators.first()) else { return Ok(false) };
        let evaluation = trainer.with_evaluated(|model| {
            let predictor = Predictor { model, inference: inference.as_deref() };
            Evaluation::run(predictor, val, evaluators, settings.seed)
        })?;
        let step = trainer.steps_done();
        let epoch = trainer.plan().epoch_after(step);
        let (name, more_is_better) = first.best();
        let figure = evaluation.get(name).filter(|value| value.is_finite());
        let better = figure.is_some_and(|value| match self.best {
            Some(best) if more_is_better => value > best,
            Some(best) => value < best,
            None => true,
        });
        if better {
            self.best = figure;
        }
        self.record(Split::Val, &evaluation.metrics)?;
        let mut line = format!("epoch {epoch:.2}, step {step}: val");
        for (name, value) in &evaluation.metrics {
            let _ = write!(line, " {name} {value:.4}");
        }
        tracing::info!("{line}");
        self.evaluation = evaluation;
        Ok(better)
    }

    fn finish(&mut self, progress: Progress) -> Result<(), EngineError> {
        let step = self.prepared.trainer.steps_done();
        let better = !self.is_evaluated(step) && self.evaluate()?;
        self.take_pictures(step)?;
        self.save(if better { Kind::Best } else { Kind::Last })?;
        crate::weights::write_safetensors(
            &self.dir.weights(),
            &self.prepared.trainer.weights(),
            &self.weights_metadata(),
        )?;
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

    fn save(&mut self, kind: Kind) -> Result<(), EngineError> {
        let trainer = &self.prepared.trainer;
        // Saved again it would have another digest, and no longer be the best.
        if kind == Kind::Last && self.saved == trainer.steps_done() {
            return Ok(());
        }
        // Before the checkpoint: what is logged beyond it is cut off when resuming, what is missing would be lost.
        self.metrics.write(&self.dir.metrics())?;
        self.events.iter_mut().try_for_each(EventLog::flush)?;
        let (corrupt_train, corrupt_val) = self.prepared.corrupt();
        let finite = |(name, value): &(String, f64)| (name.clone(), value.is_finite().then_some(*value));
        let state = RunState {
            samples: self.prepared.train.pipeline().samples.len(),
            seconds: self.seconds(),
            best: self.best,
            evaluation: self.evaluation.metrics.iter().map(finite).collect(),
            window: self.window.sums().clone(),
            init_from_digest: self.init_from_digest.clone(),
            corrupt_train,
            corrupt_val,
        };
        let state = serde_json::to_value(&state).unwrap_or_default();
        let checkpoint = Checkpoint { step: trainer.steps_done(), tensors: trainer.tensors(), state };
        let path = self.store.save(&checkpoint, kind)?;
        self.saved = checkpoint.step;
        tracing::debug!("saved {}", path.display());
        Ok(())
    }

    fn write(&mut self, status: &Status) -> Result<(), EngineError> {
        self.events.iter_mut().try_for_each(EventLog::flush)?;
        self.metrics.write(&self.dir.metrics())?;
        write_report(self, status)
    }

    fn log_window(&mut self) -> Result<(), EngineError> {
        let figures = self.window.take();
        self.record(Split::Train, &figures)
    }

    /// Logs figures of the present step.
    fn record(&mut self, split: Split, figures: &[(String, f64)]) -> Result<(), EngineError> {
        let step = self.prepared.trainer.steps_done();
        let (epoch, seconds) = (self.prepared.trainer.plan().epoch_after(step), self.seconds());
        for (name, value) in figures {
            self.metrics.push(step, epoch, split, name, *value, seconds);
        }
        if let Some(events) = &mut self.events {
            events.record(step, split, figures)?;
        }
        Ok(())
    }

    /// Pictures of the first validation images, the same ones and the same masks every time.
    fn take_pictures(&mut self, step: u64) -> Result<(), EngineError> {
        if self.pictured.is_none() {
            self.pictured = Some(self.prepared.pictured()?);
        }
        let Some(batches) = &self.pictured else { return Ok(()) };
        let rows = self.prepared.pictures(batches)?;
        if !rows.is_empty() {
            self.pictures_store().save(&PictureSet { step, rows })?;
        }
        Ok(())
    }

    /// The pictures over time.
    pub fn pictures_store(&self) -> PictureStore {
        PictureStore::new(self.dir.pictures())
    }

    /// Seconds of training, over all sessions.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
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
    }
}
