//! Evaluating weights on the validation set of a recipe.

use std::path::PathBuf;

use serde::Serialize;

use super::EngineError;
use super::evaluate::{Evaluation, Predictor};
use super::setup::{LoadedModel, Loading, TrainedOptions, classes, open};
use crate::distributed::SingleProcess;
use crate::loader::LoaderOptions;

/// The metrics of weights.
#[derive(Debug, Serialize)]
pub struct EvalReport {
    /// Name of the experiment.
    pub name: String,
    /// The weights file.
    pub weights: PathBuf,
    /// Images of the validation set.
    pub images: usize,
    /// The metrics by name, in the order of the evaluators.
    pub metrics: Vec<(String, f64)>,
}

/// Evaluates weights as training with the same recipe does: the same images, the same masks, the same
/// figures.
pub fn eval(options: &TrainedOptions) -> Result<EvalReport, EngineError> {
    let mut trained = LoadedModel::load(options)?;
    let loading = Loading::of(&trained.experiment.data);
    let val = trained.take_val()?;
    let LoadedModel { recipe, experiment, model, .. } = trained;
    if experiment.evaluate.evaluators.is_empty() {
        return Err(EngineError::Usage(format!(
            "{}: there is nothing to measure, `evaluate.evaluators` is empty",
            recipe.path().display()
        )));
    }
    let loading = loading.options(LoaderOptions::evaluate(val.batch_size));
    let loader = open(&recipe, "data.val", val, experiment.seed, loading)?;
    let samples = &loader.pipeline().samples;
    let problems = classes::problems_of_heads(&model, "validation", samples.as_ref());
    if !problems.is_empty() {
        return Err(recipe.diagnose(problems).into());
    }
    let evaluate = &experiment.evaluate;
    let predictor = Predictor { model: &model, inference: evaluate.inference.as_deref() };
    let evaluation =
        Evaluation::run(predictor, &loader, &evaluate.evaluators, experiment.seed, &SingleProcess)?;
    Ok(EvalReport {
        name: experiment.name,
        weights: options.weights.clone(),
        images: samples.len(),
        metrics: evaluation.metrics,
    })
}
