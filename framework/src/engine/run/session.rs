//! A run in progress: its state, and how it goes on from a checkpoint.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::early_stop::EarlyStopper;
use super::resumed::{Resumed, has_last};
use super::signal::{Stop, StopSignal};
use super::state::RunState;
use crate::component::Span;
use crate::data::Batch;
use crate::distributed::Communicator;
use crate::engine::EngineError;
use crate::engine::evaluate::Evaluation;
use crate::engine::ranking::ranking;
use crate::engine::setup::Prepared;
use crate::engine::train::checkpoint::{Checkpoint, CheckpointStore, Retention};
use crate::engine::train::{Sums, Window};
use crate::experiment::Checkpointing;
use crate::nn;
use crate::recipe::{Recipe, leaves, without};
use crate::report::{
    ClassTable, ConfusionTable, Details, Environment, EventLog, FeatureMap, MetricLog, PictureStore, RunDir,
};

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The run directory.
    pub run: PathBuf,
    /// Optimizer steps done.
    pub step: u64,
    /// What stopped it before its end.
    pub interrupted: Option<Stop>,
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
    /// Keys of the recipe that nobody wrote.
    pub defaults: Vec<String>,
    /// The values of the others.
    pub written: Vec<(String, Value)>,
    /// What stands for the run whose weights it started from, if it did.
    pub init_from_digest: Option<String>,
    pub environment: Environment,
    pub store: CheckpointStore,
    pub stop: StopSignal,
    pub best: Option<f64>,
    /// Whether it is to end before its length.
    pub early: Option<EarlyStopper>,
    /// Seconds of earlier sessions.
    seconds_before: f64,
    started: Instant,
    pub saved: u64,
    /// The images that the report shows, once they are read.
    pub pictured: Option<Vec<Batch>>,
    pub window: Window,
    pub events: Option<EventLog>,
}

impl Session {
    /// A run at its first step.
    pub fn new(prepared: Prepared, dir: RunDir, recipe: &Recipe) -> Result<Self, EngineError> {
        let defaults = defaults(&dir, recipe);
        let Checkpointing { keep, keep_best, keep_every, .. } = prepared.settings.checkpoint;
        let steps_per_epoch = prepared.trainer.plan().steps_per_epoch;
        let retention = Retention {
            newest: keep.max(1),
            best: keep_best,
            every: keep_every.map(|every| every.steps(steps_per_epoch)),
        };
        let store = CheckpointStore::open(dir.checkpoints())?.with_retention(retention);
        let evaluators = prepared.measures.iter().map(|measure| measure.evaluator.as_ref());
        let stop = prepared.settings.train.stop.as_ref();
        Ok(Self {
            store,
            stop: StopSignal::listen().map_err(EngineError::Signals)?,
            metrics: MetricLog::default(),
            evaluation: Evaluation::default(),
            digest: recipe.digest(),
            written: leaves(&without(recipe.value(), &defaults)),
            defaults,
            init_from_digest: prepared.init_from_digest(),
            environment: Environment {
                processes: processes(prepared.trainer.communicator().as_ref()),
                ..Environment::collect(&nn::device::describe()?, rayon::current_num_threads())
            },
            best: None,
            early: stop.and_then(|rule| EarlyStopper::new(rule, evaluators)),
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
    pub fn restore(&mut self, resumed: &Resumed) -> Result<(), EngineError> {
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
        self.refuse_other_size(&state)?;
        self.refuse_other_normalization(&state)?;
        resumed.refuse_other_data(&state.index_digests, &self.prepared.index_digests)?;
        self.prepared.trainer.restore(step, tensors)?;
        self.prepared.restore_corrupt(state.corrupt_train, state.corrupt_val);
        (self.best, self.seconds_before, self.saved) = (state.best, state.seconds, step);
        if let Some(early) = &mut self.early {
            early.waited = state.waited;
        }
        self.init_from_digest = state.init_from_digest;
        self.window = Window::new(state.window);
        let metrics = state.evaluation.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN)));
        self.evaluation = Evaluation { metrics: metrics.collect(), ..Evaluation::default() };
        self.metrics = match state.metrics {
            Some(saved) => decode_metrics(&saved)
                .map_err(|reason| EngineError::Usage(format!("the checkpoint of step {step}: {reason}")))?,
            None => self.older_metrics(step)?,
        };
        self.rank();
        if self.is_first() {
            self.pictures_store().truncate_after(step)?;
            ClassTable::truncate_after(&self.dir.classes(), step)?;
            ConfusionTable::truncate_after(&self.dir.confusion(), step)?;
            FeatureMap::truncate_after(&self.dir.features(), step)?;
            self.store.rotate(step);
        }
        tracing::info!("resumed at step {step} of {}", self.prepared.trainer.plan().steps);
        Ok(())
    }

    /// The figures that a run of an older program has recorded up to a step: its checkpoints do not hold
    /// them.
    fn older_metrics(&self, step: u64) -> Result<MetricLog, EngineError> {
        let path = self.dir.metrics();
        if !path.is_file() {
            return Ok(MetricLog::default());
        }
        let mut metrics = MetricLog::open(&path).map_err(|error| {
            EngineError::Usage(format!(
                "{error}; the checkpoints are intact: move this file away to go on without the figures recorded so far"
            ))
        })?;
        metrics.truncate_after(step);
        Ok(metrics)
    }

    /// Refuses to go on with another number of samples: order and length of epochs would be others.
    fn refuse_other_size(&self, state: &RunState) -> Result<(), EngineError> {
        let samples = self.prepared.train.pipeline().samples.len();
        if samples == state.samples {
            return Ok(());
        }
        Err(EngineError::Usage(format!(
            "the training set has {samples} samples, it had {} when the checkpoint was saved; start a new run with `--out`",
            state.samples
        )))
    }

    /// Refuses to go on with batches of other sizes for `BatchNorm`.
    fn refuse_other_normalization(&self, state: &RunState) -> Result<(), EngineError> {
        let (before, now) = (state.normalized_together, self.prepared.trainer.normalized_together());
        if before == now {
            return Ok(());
        }
        Err(EngineError::Usage(format!(
            "BatchNorm with `sync` has normalised the batches of {before} processes together, and would those of {now}: resume \
             with {before} (`mpirun --oversubscribe` starts more than there are cores), or start a new run with `--out`"
        )))
    }

    /// Tells what becomes of the schedule where the training goes on after its end.
    pub fn tell_extension(&self, more: Span) {
        let trainer = &self.prepared.trainer;
        let (plan, from) = (trainer.plan(), trainer.plan().last_part());
        tracing::info!(
            "trained longer by {more}, to {:.2} epochs ({} steps): from step {from} on the schedule is that of a training \
             so long, and the learning rate, {:.2e} at the end so far, goes on with {:.2e}",
            plan.epoch_after(plan.steps),
            plan.steps,
            trainer.lr(from.saturating_sub(1)),
            trainer.lr(from),
        );
    }

    /// How the run ended.
    pub fn outcome(self, interrupted: Option<Stop>) -> Outcome {
        Outcome {
            run: self.dir.root().to_path_buf(),
            step: self.prepared.trainer.steps_done(),
            interrupted,
            evaluation: self.evaluation,
        }
    }

    /// Whether nothing is left to do, in a directory without damage. Its checkpoints may have been removed to
    /// save room.
    pub fn is_finished(&self) -> bool {
        self.dir.is_finished() && (self.is_at_end() || !has_last(&self.dir))
    }

    /// Whether the training is at its end: at its length, or where it is to stop.
    pub fn is_at_end(&self) -> bool {
        let trainer = &self.prepared.trainer;
        trainer.steps_done() == trainer.plan().steps || self.early.as_ref().is_some_and(EarlyStopper::is_over)
    }

    /// Why it ends before its length, if it does.
    pub fn ended_early(&self) -> Option<String> {
        let trainer = &self.prepared.trainer;
        let is_early = trainer.steps_done() < trainer.plan().steps;
        self.early.as_ref().filter(|early| is_early && early.is_over()).map(ToString::to_string)
    }

    /// Tells the store which evaluations are the best so far, by the metric that decides, and returns their steps, from the best
    /// on.
    pub fn rank(&mut self) -> Vec<u64> {
        let first = self.prepared.measures.first().map(|measure| measure.evaluator.best());
        let ranking = first.map(|(metric, more)| ranking(&self.metrics, metric, more)).unwrap_or_default();
        self.store.set_ranking(ranking.clone());
        ranking
    }

    /// The processes that train together.
    pub fn communicator(&self) -> Rc<dyn Communicator> {
        self.prepared.trainer.communicator()
    }

    /// Whether this process writes the run directory.
    pub fn is_first(&self) -> bool {
        self.communicator().is_first()
    }

    /// The pictures over time.
    pub fn pictures_store(&self) -> PictureStore {
        PictureStore::new(self.dir.pictures())
    }

    /// Seconds of training, over all sessions.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }
}

/// The keys of a recipe that hold their defaults. A run's own recipe writes all of them: of a run that is resumed from it they
/// are those of its report.
fn defaults(dir: &RunDir, recipe: &Recipe) -> Vec<String> {
    let of_recipe: Vec<String> = recipe.defaults().into_iter().map(str::to_owned).collect();
    let known = Details::read(&dir.details()).map(|details| details.defaults);
    if of_recipe.is_empty() { known.unwrap_or_default() } else { of_recipe }
}

/// How many processes there are, and what connects them.
fn processes(communicator: &dyn Communicator) -> Option<String> {
    communicator.engine().map(|engine| format!("{}, connected by {engine}", communicator.size()))
}

fn decode_metrics(saved: &str) -> Result<MetricLog, String> {
    MetricLog::decode(BASE64_STANDARD.decode(saved).map_err(|error| error.to_string())?)
}
