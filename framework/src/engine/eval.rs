//! Evaluating weights on the validation set of a recipe.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::EngineError;
use super::evaluate::{Evaluation, Measure, Predictor};
use super::setup::{LoadedModel, Loading, SplitReport, TrainedOptions, classes, open};
use super::together::together;
use crate::component::{Inference, TaskKind};
use crate::distributed::Communicator;
use crate::experiment::Experiment;
use crate::graph::Model;
use crate::loader::{Loader, LoaderOptions};
use crate::metrics::coco::ResultsFile;

/// The metrics of weights.
#[derive(Debug, Serialize)]
pub struct EvalReport {
    /// Name of the experiment.
    pub name: String,
    /// The weights file.
    pub weights: PathBuf,
    /// Images of the validation set that were read.
    pub images: usize,
    /// Images that could not be read: the next ones took their places in the metrics.
    pub corrupt_samples: usize,
    /// The metrics by name, in the order of the evaluators.
    pub metrics: Vec<(String, f64)>,
}

/// Evaluates weights as training with the same recipe does: the same images, the same masks, the same
/// figures, whatever the number of processes that share the images. The objects that are found are written to `results`, if that is
/// wanted, by the first process.
pub fn eval(
    options: &TrainedOptions,
    results: Option<&Path>,
    communicator: &dyn Communicator,
) -> Result<EvalReport, EngineError> {
    let Ready { name, model, loader, measures, inference, seed } =
        together(communicator, Ready::new(options, results.is_some()))?;
    let predictor = Predictor { model: &model, inference: inference.as_deref() };
    let samples = &loader.pipeline().samples;
    let create = |path| match communicator.is_first() {
        true => ResultsFile::create(path, samples.category_ids()),
        false => Ok(ResultsFile::of_another(path, samples.category_ids())),
    };
    let results = results.map(create).transpose().map_err(EngineError::from);
    let mut results = together(communicator, results)?;
    let evaluation = Evaluation::run(predictor, &loader, &measures, seed, communicator, results.as_mut())?;
    let finished = results.map(ResultsFile::finish).transpose().map_err(EngineError::from);
    together(communicator, finished)?;
    let corrupt_samples = loader.corrupt().len();
    Ok(EvalReport {
        name,
        weights: options.weights.clone(),
        images: samples.len() - corrupt_samples,
        corrupt_samples,
        metrics: evaluation.metrics,
    })
}

/// What is evaluated, before the first image is read.
struct Ready {
    name: String,
    model: Model,
    loader: Loader,
    measures: Vec<Measure>,
    inference: Option<Box<dyn Inference>>,
    seed: u64,
}

impl Ready {
    /// `with_results`: objects are to be found.
    fn new(options: &TrainedOptions, with_results: bool) -> Result<Self, EngineError> {
        let mut trained = LoadedModel::load(options)?;
        let loading = Loading::of(&trained.experiment.data);
        let val = trained.take_val()?;
        let LoadedModel { recipe, experiment, model, .. } = trained;
        let path = recipe.path().display();
        if experiment.evaluate.evaluators.is_empty() && !with_results {
            return Err(EngineError::Usage(format!(
                "{path}: there is nothing to measure, `evaluate.evaluators` is empty"
            )));
        }
        if with_results && model.heads().predicting(TaskKind::Detect).is_empty() {
            let message =
                format!("{path}: there are no results to write, no head of the model finds objects");
            return Err(EngineError::Usage(message));
        }
        let loading = loading.options(LoaderOptions::evaluate(val.batch_size));
        let loader = open(&recipe, "data.val", val, model.image.channels, experiment.seed, loading)?;
        let samples = &loader.pipeline().samples;
        let problems = classes::problems_of_heads(&model.heads(), "validation", samples.as_ref());
        if !problems.is_empty() {
            return Err(recipe.diagnose(problems).into());
        }
        SplitReport::new("val", samples.as_ref(), &model.heads()).log();
        let evaluate = experiment.evaluate;
        let measures = Measure::all(&recipe, evaluate.evaluators, &model)?;
        let Experiment { name, seed, .. } = experiment;
        Ok(Self { name, model, loader, measures, inference: evaluate.inference, seed })
    }
}
