//! Initial weights, without a training.

use std::collections::BTreeMap;

use super::EngineError;
use super::setup::device::open_device;
use super::setup::initialize;
use super::setup::position_grids::SavedGrids;
use super::train::param_tensors;
use crate::graph::{self, Checked, Model, catalog};
use crate::nn::Scope;
use crate::recipe::Sources;
use crate::weights::TensorMap;

/// The weights that a training of a recipe starts from, `init_from` applied, and what they say of themselves.
pub fn initial_weights(sources: &Sources) -> Result<(TensorMap, BTreeMap<String, String>), EngineError> {
    let (recipe, Checked { experiment, plan, image, .. }) = graph::load(sources, &catalog())?;
    open_device(&recipe, &experiment)?;
    let model = Model::build(&plan, image, &Scope::new(experiment.seed))
        .map_err(|problems| recipe.diagnose(problems))?;
    experiment.init_from.iter().try_for_each(|from| initialize(&recipe, &model, from))?;
    let params = model.params();
    Ok((param_tensors(&params)?, BTreeMap::from([SavedGrids::of_params(&params).entry()])))
}
