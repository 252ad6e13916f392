//! From a checked recipe to loaders and a trainer.

pub mod classes;
pub mod device;
mod footprint;
mod image_channels;
mod index_digest;
mod init_from;
mod inspect;
pub mod lineage;
mod loaded_model;
mod memory;
mod outlook;
pub mod position_grids;
mod shares;
mod split_report;

use std::rc::Rc;
use std::sync::Arc;

use crate::component::{Inference, Optimizer, Picture, Problem, Samples, Schedule, TaskKind, Training};
use crate::data::{Batch, DataError};
use crate::distributed::{Communicator, SingleProcess};
use crate::experiment::{Data, Experiment, InitFrom, InitSource, Split, Train};
use crate::graph::{Checked, Model, Plan, Summary, warn, warnings_of_heads, warnings_of_schedule};
use crate::loader::{CorruptSample, Loader, LoaderOptions, Pipeline, check_length};
use crate::nn::{Context, DeviceName, Scope};
use crate::random::{self, Purpose};
use crate::recipe::Recipe;

use super::EngineError;
use super::evaluate::{Measure, Predictor};
use super::train::{Trainer, TrainerParts, TrainingPlan};

pub use footprint::warn_of_memory;
pub use index_digest::IndexDigests;
pub use init_from::{RunWeights, checkpoint_of_run, initialize, load_part, load_weights, weights_of_run};
pub use inspect::{Inspection, Look, inspect, with_all_mistakes};
pub use loaded_model::{LoadedModel, TrainedOptions};
pub use outlook::Outlook;
pub use split_report::SplitReport;

use device::open_device;
use inspect::problem_of_data;
use lineage::lineage_of;

/// Everything that a run works with.
pub struct Prepared {
    /// The model with its optimizer.
    pub trainer: Trainer,
    /// Training batches.
    pub train: Loader,
    /// Validation batches.
    pub val: Option<Loader>,
    /// What the data are.
    pub data: Vec<SplitReport>,
    /// The metrics.
    pub measures: Vec<Measure>,
    /// How the model is shown images of other sizes than its own.
    pub inference: Option<Box<dyn Inference>>,
    /// Weights to start from.
    pub init_from: Option<InitFrom>,
    /// What stands for the data, wherever they lie.
    pub index_digests: IndexDigests,
    /// The rest of the recipe.
    pub settings: Settings,
    /// The table of the model.
    pub summary: Summary,
}

/// The parts of the recipe that the run itself looks at.
pub struct Settings {
    /// Name of the experiment.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// How it is trained.
    pub train: Train,
    /// When it is evaluated.
    pub evaluate_every: crate::component::Span,
    /// Validation images shown in the report.
    pub pictures: usize,
    /// When it is saved.
    pub checkpoint: crate::experiment::Checkpointing,
    /// What it logs besides the files of every run.
    pub logging: crate::experiment::Logging,
}

impl Prepared {
    /// Gives the parameters the weights that the recipe starts from, if it names some.
    pub fn initialize(&self, recipe: &Recipe) -> Result<(), EngineError> {
        self.init_from.iter().try_for_each(|from| initialize(recipe, &self.trainer.model, from))
    }

    /// What stands for the run whose weights the recipe starts from, if it does: [`lineage_of`] that run.
    pub fn init_from_digest(&self) -> Option<String> {
        match self.init_from.as_ref()?.source() {
            Ok(InitSource::Run(root)) => lineage_of(root),
            _ => None,
        }
    }

    /// The validation images that the report shows, spread over the set; unreadable ones are left out. They
    /// are one batch, if they all have the size of the model's images.
    pub fn pictured(&self) -> Result<Vec<Batch>, EngineError> {
        let Some(val) = &self.val else { return Ok(Vec::new()) };
        let pipeline = val.pipeline();
        let len = pipeline.samples.len();
        let count = self.settings.pictures.min(len);
        let mut samples = Vec::with_capacity(count);
        for picture in 0..count {
            match pipeline.sample(0, picture * len / count) {
                Ok(sample) => samples.push(sample),
                Err(DataError::Corrupt { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let batches = match (samples.len(), &self.inference) {
            (0, _) => Vec::new(),
            (_, None) => vec![Batch::stack(samples, pipeline.pad_to)?],
            (_, Some(_)) => {
                let alone = |sample| Batch::stack(vec![sample], pipeline.pad_to);
                samples.into_iter().map(alone).collect::<Result<_, _>>()?
            }
        };
        Ok(batches)
    }

    /// Pictures of batches, a row per image, under the same masks every time.
    pub fn pictures(&mut self, batches: &[Batch]) -> Result<Vec<Vec<Picture>>, EngineError> {
        let Self { trainer, val, inference, settings, .. } = self;
        let samples = val.as_ref().map(|val| &val.pipeline().samples);
        let names = |task| samples.and_then(|samples| samples.classes(task)).unwrap_or_default();
        trainer.with_evaluated(|model| {
            let predictor = Predictor { model, inference: inference.as_deref() };
            let mut rows = Vec::new();
            for batch in batches {
                let rng = random::stream(Purpose::Evaluate, &[settings.seed, 1]);
                let ctx = Context::eval(rng).with_first_image(rows.len() as u64);
                let mut asked = predictor.ask(batch, &ctx);
                // Other heads draw from the features.
                let drawn = [TaskKind::Segment, TaskKind::Detect].into_iter();
                let drawn: Vec<_> = drawn.filter(|&task| asked.is_predicted(task)).collect();
                let predictions = asked.predictions(&drawn)?;
                rows.extend(asked.pictures(&predictions, names)?);
            }
            Ok(rows)
        })
    }

    /// Unreadable samples met so far, in training and in validation.
    pub fn corrupt(&self) -> (Vec<CorruptSample>, Vec<CorruptSample>) {
        (self.train.corrupt(), self.val.as_ref().map(Loader::corrupt).unwrap_or_default())
    }

    /// Takes over the unreadable samples that earlier sessions met.
    pub fn restore_corrupt(&self, train: Vec<CorruptSample>, val: Vec<CorruptSample>) {
        self.train.remember_corrupt(train);
        if let Some(loader) = &self.val {
            loader.remember_corrupt(val);
        }
    }
}

/// Opens the data and builds the model of a checked recipe, for processes that train it together.
pub fn prepare(
    recipe: &Recipe,
    checked: Checked,
    communicator: Rc<dyn Communicator>,
) -> Result<Prepared, EngineError> {
    open_device(recipe, &checked.experiment)?;
    let Checked { experiment, plan, image, summary } = checked;
    if experiment.device.unwrap_or_default() == DeviceName::Cpu {
        memory::check(summary.parameters)?;
        warn_of_memory(recipe, experiment.data.train.batch_size, communicator.size());
    }
    let Experiment {
        name,
        seed,
        data,
        init_from,
        optimizer,
        schedule,
        train,
        evaluate,
        checkpoint,
        logging,
        ..
    } = experiment;
    let loading = Loading::of(&data);
    let Data { train: train_split, val: val_split, .. } = data;
    let batch_size = train_split.batch_size;
    let loader = |key: &str, split: Split, training: bool| {
        let options = match training {
            true => LoaderOptions { drop_last: train.drop_last, ..LoaderOptions::train(split.batch_size) },
            false => LoaderOptions::evaluate(split.batch_size),
        };
        open(recipe, key, split, image.channels, seed, loading.options(options))
    };
    let train_loader = loader("data.train", train_split, true)?;
    let val = val_split.map(|split| loader("data.val", split, false)).transpose()?;
    let samples = train_loader.pipeline().samples.len();
    let training = training_plan(recipe, samples, batch_size, &train)?;
    shares::check(recipe, &train, communicator.size())?;
    warn(recipe, warnings_of_training(&plan, schedule.as_ref(), &train, optimizer.as_ref(), &training));
    let model =
        Model::build(&plan, image, &Scope::new(seed)).map_err(|problems| recipe.diagnose(problems))?;
    let val_samples = val.as_ref().map(|val| val.pipeline().samples.as_ref());
    let data = look_at(recipe, &model, train_loader.pipeline().samples.as_ref(), val_samples)?;
    let measures = Measure::all(recipe, evaluate.evaluators, &model)?;
    let trainer = build_trainer(recipe, model, optimizer.as_ref(), schedule, &train, training, seed)?
        .among(communicator);
    let settings = Settings {
        name,
        seed,
        train,
        evaluate_every: evaluate.every,
        pictures: evaluate.pictures,
        checkpoint,
        logging,
    };
    let digest = |loader: &Loader| IndexDigests::of(loader.pipeline().samples.as_ref());
    Ok(Prepared {
        index_digests: IndexDigests { train: digest(&train_loader), val: val.as_ref().and_then(digest) },
        trainer,
        train: train_loader,
        val,
        data,
        measures,
        inference: evaluate.inference,
        init_from,
        settings,
        summary,
    })
}

/// What opened data are.
///
/// # Errors
/// Where their classes and those of the model do not agree.
fn look_at(
    recipe: &Recipe,
    model: &Model,
    train: &dyn Samples,
    val: Option<&dyn Samples>,
) -> Result<Vec<SplitReport>, EngineError> {
    let heads = model.heads();
    let problems = classes::problems(&heads, Some(train), val);
    if !problems.is_empty() {
        return Err(recipe.diagnose(problems).into());
    }
    let val = val.map(|val| SplitReport::new("val", val, &heads));
    Ok([SplitReport::new("train", train, &heads)].into_iter().chain(val).collect())
}

/// The steps of a recipe's training, whose dataset is opened for its length.
pub fn plan_of_training(recipe: &Recipe, experiment: &Experiment) -> Result<TrainingPlan, EngineError> {
    let split = &experiment.data.train;
    let samples = split.dataset.open().map_err(|error| of_data(recipe, "data.train.dataset", &error))?;
    training_plan(recipe, samples.len(), split.batch_size, &experiment.train)
}

/// How many steps the training takes, which is at least one of an epoch.
fn training_plan(
    recipe: &Recipe,
    samples: usize,
    batch_size: usize,
    train: &Train,
) -> Result<TrainingPlan, EngineError> {
    TrainingPlan::of(train, samples, batch_size).ok_or_else(|| {
        recipe.diagnose(problem_of_length(samples, batch_size, train).into_iter().collect()).into()
    })
}

/// A training set without a batch, or an epoch without a step.
fn problem_of_length(samples: usize, batch_size: usize, train: &Train) -> Option<Problem> {
    if let Err(error) = check_length(samples, batch_size, train.drop_last) {
        return Some(Problem::new("data.train", error.to_string()));
    }
    if TrainingPlan::of(train, samples, batch_size).is_some() {
        return None;
    }
    let batches = samples / batch_size.max(1);
    let message =
        format!("an epoch has {batches} batches, fewer than one step of {} batches", train.accumulate);
    let help = "lower it, or `data.train.batch_size`, or set `train.drop_last: false`";
    Some(Problem::new("train.accumulate", message).help(help))
}

/// What is doubtful about a training, now that the size of its data is known.
fn warnings_of_training(
    plan: &Plan,
    schedule: &dyn Schedule,
    train: &Train,
    optimizer: &dyn Optimizer,
    steps: &TrainingPlan,
) -> Vec<Problem> {
    let training = Training {
        base_lr: optimizer.base_lr(steps.images_per_step),
        length: train.length,
        steps_per_epoch: Some(steps.steps_per_epoch),
    };
    let mut warnings = warnings_of_heads(plan);
    warnings.extend(warnings_of_schedule(schedule, &training));
    warnings
}

/// A model with what trains it, in this process alone; what is wrong with the optimizer is reported at its place in the recipe.
pub fn build_trainer(
    recipe: &Recipe,
    model: Model,
    optimizer: &dyn Optimizer,
    schedule: Box<dyn Schedule>,
    train: &Train,
    plan: TrainingPlan,
    seed: u64,
) -> Result<Trainer, EngineError> {
    let at = |problem: Problem| recipe.diagnose(vec![problem.within("optimizer")]);
    let trainer = Trainer::new(TrainerParts {
        optimizer: optimizer.build(&model.params()).map_err(at)?,
        base_lr: optimizer.base_lr(plan.images_per_step),
        model,
        schedule,
        plan,
        clip_grad_norm: train.clip_grad_norm,
        checkpoint_activations: train.checkpoint_activations,
        ema: train.ema,
        seed,
        communicator: Rc::new(SingleProcess),
        reduction: shares::reduction(train),
        sync: shares::sync(recipe),
    })?;
    Ok(trainer)
}

/// How all splits of a recipe are read.
#[derive(Debug, Clone, Copy)]
pub struct Loading {
    workers: Option<usize>,
    prefetch: usize,
    max_corrupt: f64,
}

impl Loading {
    /// What the recipe says.
    pub fn of(data: &Data) -> Self {
        Self { workers: data.workers, prefetch: data.prefetch, max_corrupt: data.max_corrupt }
    }

    /// `base` with what the recipe says.
    pub fn options(self, mut base: LoaderOptions) -> LoaderOptions {
        base.workers = self.workers.unwrap_or(base.workers);
        base.prefetch = self.prefetch;
        base.max_corrupt = self.max_corrupt;
        base
    }
}

/// Opens a dataset; what is wrong with it is reported at its place in the recipe.
pub fn open(
    recipe: &Recipe,
    key: &str,
    split: Split,
    channels: usize,
    seed: u64,
    options: LoaderOptions,
) -> Result<Loader, EngineError> {
    let samples = split.dataset.open().map_err(|error| of_data(recipe, &format!("{key}.dataset"), &error))?;
    let Split { transforms, batch_transforms, pad_to, .. } = split;
    let pipeline = Pipeline { samples, transforms, batch_transforms, pad_to, channels, seed };
    Loader::new(Arc::new(pipeline), options).map_err(|error| of_data(recipe, key, &error))
}

fn of_data(recipe: &Recipe, key: &str, error: &DataError) -> EngineError {
    recipe.diagnose(vec![problem_of_data(error, key)]).into()
}
