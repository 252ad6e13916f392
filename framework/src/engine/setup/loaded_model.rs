//! A recipe's model with weights: what evaluation and prediction start from.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::component::Problem;
use crate::experiment::{Experiment, Nodes, Split};
use crate::graph::{self, Checked, Model, Plan, catalog};
use crate::nn::Scope;
use crate::recipe::{Recipe, Sources};

use super::device::open_device;
use super::init_from::{load_part, load_weights};
use crate::engine::EngineError;

/// A recipe and weights for its model.
#[derive(Debug)]
pub struct TrainedOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// The weights: of a run, a checkpoint, or any other file with the model's names.
    pub weights: PathBuf,
    /// The entry of the weights file that holds the model, if it is not the usual one.
    pub entry: Option<String>,
}

/// A built model with its weights.
pub struct LoadedModel {
    /// The recipe.
    pub recipe: Recipe,
    /// The recipe, typed.
    pub experiment: Experiment,
    /// The model.
    pub model: Model,
    /// What the weights say of themselves.
    pub metadata: Map<String, Value>,
}

impl LoadedModel {
    /// Builds the model and loads the weights, which must fit exactly.
    pub fn load(options: &TrainedOptions) -> Result<Self, EngineError> {
        let (recipe, Checked { experiment, plan, image, .. }) = graph::load(&options.sources, &catalog())?;
        open_device(&recipe, &experiment)?;
        let model = Model::build(&plan, image, &Scope::new(experiment.seed))
            .map_err(|problems| recipe.diagnose(problems))?;
        let metadata = load_weights(&model.params(), &options.weights, options.entry.as_deref())?;
        Ok(Self { recipe, experiment, model, metadata })
    }

    /// Builds those parts of the model alone that yield features of whole images, and loads their weights.
    pub fn load_features(options: &TrainedOptions) -> Result<Self, EngineError> {
        let (recipe, Checked { image, .. }) = graph::load(&options.sources, &catalog())?;
        let mut experiment: Experiment = recipe.deserialize("")?;
        open_device(&recipe, &experiment)?;
        let nodes = Nodes(std::mem::take(&mut experiment.model.0)).features();
        let model = Plan::new(nodes)
            .and_then(|plan| Model::build(&plan, image, &Scope::new(experiment.seed)))
            .map_err(|problems| recipe.diagnose(within_model(problems)))?;
        load_part(&model.params(), &options.weights, options.entry.as_deref())?;
        Ok(Self { recipe, experiment, model, metadata: Map::new() })
    }

    /// The validation set, which tells how images are prepared.
    pub fn take_val(&mut self) -> Result<Split, EngineError> {
        let missing = || {
            EngineError::Usage(format!(
                "{}: there is no `data.val`, whose transforms prepare images for the model",
                self.recipe.path().display()
            ))
        };
        self.experiment.data.val.take().ok_or_else(missing)
    }
}

fn within_model(problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(|problem| problem.within("model")).collect()
}
