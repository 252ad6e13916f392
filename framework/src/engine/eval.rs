//! Evaluating weights on the validation set of a recipe.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::EngineError;
use super::evaluate::{Evaluation, Predictor};
use super::setup::{LoadedModel, Loading, SplitReport, TrainedOptions, classes, open};
use crate::component::TaskKind;
use crate::distributed::SingleProcess;
use crate::loader::LoaderOptions;
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
/// figures. The objects that are found are written to `results`, if that is wanted.
pub fn eval(options: &TrainedOptions, results: Option<&Path>) -> Result<EvalReport, EngineError> {
    let mut trained = LoadedModel::load(options)?;
    let loading = Loading::of(&trained.experiment.data);
    let val = trained.take_val()?;
    let LoadedModel { recipe, experiment, model, .. } = trained;
    let path = recipe.path().display();
    if experiment.evaluate.evaluators.is_empty() && results.is_none() {
        return Err(EngineError::Usage(format!(
            "{path}: there is nothing to measure, `evaluate.evaluators` is empty"
        )));
    }
    if results.is_some() && model.heads().predicting(TaskKind::Detect).is_empty() {
        let message = format!("{path}: there are no results to write, no head of the model finds objects");
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
    let evaluate = &experiment.evaluate;
    let predictor = Predictor { model: &model, inference: evaluate.inference.as_deref() };
    let create = |path| ResultsFile::create(path, samples.category_ids());
    let mut results = results.map(create).transpose()?;
    let evaluation = Evaluation::run(
        predictor,
        &loader,
        &evaluate.evaluators,
        experiment.seed,
        &SingleProcess,
        results.as_mut(),
    )?;
    results.map(ResultsFile::finish).transpose()?;
    let corrupt_samples = loader.corrupt().len();
    Ok(EvalReport {
        name: experiment.name,
        weights: options.weights.clone(),
        images: samples.len() - corrupt_samples,
        corrupt_samples,
        metrics: evaluation.metrics,
    })
}
