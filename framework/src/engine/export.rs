//! Weights for other tools: of a whole model, or of a part of it.

use std::collections::BTreeMap;

use super::EngineError;
use super::setup::device::open_device;
use super::setup::position_grids::SavedGrids;
use super::setup::{TrainedOptions, load_part, load_weights};
use super::train::param_tensors;
use crate::graph::{Checked, Model, catalog, check};
use crate::nn::Scope;
use crate::recipe::load;
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
    let recipe = load(&options.sources, &catalog())?;
    let Checked { experiment, plan, image, .. } = check(&recipe)?;
    open_device(&recipe, &experiment)?;
    let model = Model::build(&plan, image, &Scope::new(experiment.seed))
        .map_err(|problems| recipe.diagnose(problems))?;
    let entry = options.entry.as_deref();
    let Some(node) = node else {
        load_weights(&model.params(), &options.weights, entry)?;
        let params = model.params();
        return Ok((param_tensors(&params)?, BTreeMap::from([SavedGrids::of_params(&params).entry()])));
    };
    let nodes = || plan.nodes.iter().map(|planned| planned.node.name.as_str());
    let (prefix, params) =
        model.node_params(node).filter(|(_, params)| !params.is_empty()).ok_or_else(|| {
            let is_full = |name: &&str| model.node_params(name).is_some_and(|(_, params)| !params.is_empty());
            let names: Vec<_> = nodes().filter(is_full).map(|name| format!("`{name}`")).collect();
            EngineError::Usage(format!(
                "the model has no node `{node}` with parameters; it has {}",
                names.join(", ")
            ))
        })?;
    load_part(&params, &options.weights, entry)?;
    let before = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    let without = |name: &str| name.strip_prefix(&before).unwrap_or(name).to_owned();
    let tensors = param_tensors(&params)?.into_iter().map(|(name, tensor)| (without(&name), tensor));
    Ok((tensors.collect(), BTreeMap::new()))
}
