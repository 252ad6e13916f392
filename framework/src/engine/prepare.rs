//! From a checked recipe to loaders and a trainer.

use std::sync::Arc;

use crate::component::{DataError, Evaluator, Optimizer, OptimizerModule, Picture, Problem};
use crate::data::{Batch, CorruptSample, Loader, LoaderOptions, Pipeline};
use crate::experiment::{Data, Experiment, InitFrom, Split};
use crate::graph::{Checked, Model, Summary};
use crate::nn::{Context, Scope};
use crate::random::{self, Purpose};
use crate::recipe::Recipe;

use super::EngineError;
use super::device::open_device;
use super::initialize::initialize;
use super::plan::TrainingPlan;
use super::trainer::{Trainer, TrainerParts};

/// Everything that a run works with.
pub struct Prepared {
    /// The model with its optimizer.
    pub trainer: Trainer,
    /// Training batches.
    pub train: Loader,
    /// Validation batches.
    pub val: Option<Loader>,
    /// The metrics.
    pub evaluators: Vec<Box<dyn Evaluator>>,
    /// Weights to start from.
    pub init_from: Option<InitFrom>,
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
    pub train: crate::experiment::Train,
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

    /// The names of the classes, where the data has classes.
    pub fn classes(&self) -> Option<&[String]> {
        self.train.pipeline().samples.classes()
    }

    /// The validation images that the report shows, spread over the set; unreadable ones are left out.
    pub fn pictured_batch(&self) -> Result<Option<Batch>, EngineError> {
        let Some(val) = &self.val else { return Ok(None) };
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
        Ok(if samples.is_empty() { None } else { Some(Batch::stack(samples)?) })
    }

    /// Pictures of a batch, under the same masks every time.
    pub fn pictures(&mut self, batch: &Batch) -> Result<Vec<Vec<Picture>>, EngineError> {
        let ctx = Context::eval(random::stream(Purpose::Evaluate, &[self.settings.seed, 1]));
        self.trainer.with_evaluated(|model| {
            let outputs = model.forward(batch, &ctx)?;
            Ok(model.pictures(&outputs, batch, &ctx)?)
        })
    }

    /// Unreadable samples met so far, in training and in validation.
    pub fn corrupt(&self) -> (Vec<CorruptSample>, Vec<CorruptSample>) {
        (self.train.corrupt(), self.val.as_ref().map(Loader::corrupt).unwrap_or_default())
    }

    /// Takes over the unreadable samples that earlier sessions met.
    pub fn restore_corrupt(&mut self, train: Vec<CorruptSample>, val: Vec<CorruptSample>) {
        self.train.remember_corrupt(train);
        if let Some(loader) = &mut self.val {
            loader.remember_corrupt(val);
        }
    }
}

/// Opens the data and builds the model of a checked recipe.
pub fn prepare(recipe: &Recipe, checked: Checked) -> Result<Prepared, EngineError> {
    open_device(recipe, &checked.experiment)?;
    let Checked { experiment, plan, image, summary } = checked;
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
        let base = if training { LoaderOptions::train } else { LoaderOptions::evaluate };
        let options = loading.options(base(split.batch_size));
        open(recipe, key, split, seed, options)
    };
    let train_loader = loader("data.train", train_split, true)?;
    let val = val_split.map(|split| loader("data.val", split, false)).transpose()?;
    let batches = train_loader.batches();
    let training =
        TrainingPlan::new(batches, batch_size, train.accumulate, train.length).ok_or_else(|| {
            let message = format!(
                "an epoch has {batches} batches, fewer than one step of {} batches",
                train.accumulate
            );
            recipe.diagnose(vec![
                Problem::new("train.accumulate", message).help("lower it, or lower `data.train.batch_size`"),
            ])
        })?;
    let model =
        Model::build(&plan, image, &Scope::new(seed)).map_err(|problems| recipe.diagnose(problems))?;
    let problems = problems_of_classes(&model, &train_loader, val.as_ref());
    if !problems.is_empty() {
        return Err(recipe.diagnose(problems).into());
    }
    let trainer = Trainer::new(TrainerParts {
        optimizer: build_optimizer(recipe, optimizer.as_ref(), &model)?,
        base_lr: optimizer.base_lr(training.images_per_step),
        model,
        schedule,
        plan: training,
        clip_grad_norm: train.clip_grad_norm,
        checkpoint_activations: train.checkpoint_activations,
        ema: train.ema,
        seed,
    });
    let settings = Settings {
        name,
        seed,
        train,
        evaluate_every: evaluate.every,
        pictures: evaluate.pictures,
        checkpoint,
        logging,
    };
    Ok(Prepared {
        trainer,
        train: train_loader,
        val,
        evaluators: evaluate.evaluators,
        init_from,
        settings,
        summary,
    })
}

/// Classes that training and validation, or data and heads, do not agree about.
fn problems_of_classes(model: &Model, train: &Loader, val: Option<&Loader>) -> Vec<Problem> {
    let classes = |loader: &'_ Loader| loader.pipeline().samples.classes().map(<[String]>::to_vec);
    // Pretraining looks at no class.
    if model.num_classes().is_empty() {
        return Vec::new();
    }
    let Some(train) = classes(train) else { return Vec::new() };
    let mut problems = Vec::new();
    if let Some(val) = val.and_then(classes)
        && val != train
    {
        let only = |a: &[String], b: &[String]| {
            let names: Vec<_> = a.iter().filter(|name| !b.contains(name)).map(String::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let message = format!(
            "its {} classes are not the {} of the training set; only in training: {}; only in validation: {}",
            val.len(),
            train.len(),
            only(&train, &val),
            only(&val, &train),
        );
        let help = "both must have the same classes in the same order, or labels would mean different things";
        problems.push(Problem::new("data.val.dataset", message).help(help));
    }
    problems.extend(problems_of_heads(model, "training", train.len()));
    problems
}

/// Heads that tell apart another number of classes than the data of `split` has.
pub fn problems_of_heads(model: &Model, split: &str, in_data: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (node, classes) in model.num_classes() {
        if classes != in_data {
            let message = format!("the head tells {classes} classes apart, the {split} set has {in_data}");
            problems.push(
                Problem::new(format!("model.{node}.num_classes"), message)
                    .help(format!("set it to {in_data}")),
            );
        }
    }
    problems
}

/// The optimizer of a model; what is wrong with it is reported at its place in the recipe.
pub fn build_optimizer(
    recipe: &Recipe,
    optimizer: &dyn Optimizer,
    model: &Model,
) -> Result<Box<dyn OptimizerModule>, EngineError> {
    let at = |problem: Problem| recipe.diagnose(vec![problem.within("optimizer")]);
    Ok(optimizer.build(&model.params()).map_err(at)?)
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
    seed: u64,
    options: LoaderOptions,
) -> Result<Loader, EngineError> {
    let at =
        |key: String| move |error: DataError| recipe.diagnose(vec![Problem::new(&key, error.to_string())]);
    let samples = split.dataset.open().map_err(at(format!("{key}.dataset")))?;
    let pipeline =
        Pipeline { samples, transforms: split.transforms, batch_transforms: split.batch_transforms, seed };
    Ok(Loader::new(Arc::new(pipeline), options).map_err(at(key.to_owned()))?)
}
