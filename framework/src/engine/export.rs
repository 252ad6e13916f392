//! Weights for other tools: of a whole model, or of a part of it.

use std::collections::BTreeMap;

use super::EngineError;
use super::setup::device::open_device;
use super::setup::position_grids::SavedGrids;
use super::setup::{TrainedOptions, load_part, load_weights};
use super::train::param_tensors;
use crate::graph::{self, Checked, Model, catalog};
use crate::nn::Scope;
use crate::weights::TensorMap;

/// The weights of a trained model under the official names, and what they say of themselves; of a node alone as if it were a model of
/// its own, without the node's prefix.
///
/// # Errors
/// If there is no such node, or it has no parameters, or the weights do not fit.
pub fn export(
    options: &TrainedOptions,
    node: Option<&str>,
) -> Result<(TensorMap, BTreeMap<String, String>), EngineError> {
    let (recipe, Checked { experiment, plan, image, .. }) = graph::load(&options.sources, &catalog())?;
    open_device(&recipe, &experiment)?;
    let model = Model::build(&plan, image, &Scope::new(experiment.seed))
        .map_err(|problems| recipe.diagnose(problems))?;
    let entry = options.entry.as_deref();
    let Some(node) = node else {
        load_weights(&model.params(), &options.weights, entry)?;
        let params = model.params();
        return Ok((param_tensors(&params)?, BTreeMap::from([SavedGrids::of_params(&params).entry()])));
    };
    let mut nodes = model.params_by_node();
    nodes.retain(|(_, params)| !params.is_empty());
    let (node, params) = nodes.iter().find(|(known, _)| known.name == node).ok_or_else(|| {
        let names: Vec<_> = nodes.iter().map(|(known, _)| format!("`{}`", known.name)).collect();
        let names = names.join(", ");
        EngineError::Usage(format!("the model has no node `{node}` with parameters; it has {names}"))
    })?;
    load_part(params, &options.weights, entry)?;
    let before = if node.prefix.is_empty() { String::new() } else { format!("{}.", node.prefix) };
    let without = |name: &str| name.strip_prefix(&before).unwrap_or(name).to_owned();
    let tensors = param_tensors(params)?.into_iter().map(|(name, tensor)| (without(&name), tensor));
    Ok((tensors.collect(), BTreeMap::new()))
}
