//! The device of a recipe.

use crate::component::Problem;
use crate::experiment::Experiment;
use crate::nn::{self, DeviceName};
use crate::recipe::Recipe;

use crate::engine::EngineError;

/// Opens the device of a recipe. Comes before anything is built: without one, nothing else is worth opening.
pub fn open_device(recipe: &Recipe, experiment: &Experiment) -> Result<(), EngineError> {
    let name = experiment.device.unwrap_or_default();
    match nn::device::select(name) {
        Ok(()) => {}
        Err(
            error @ (nn::Error::BuiltWithoutCuda | nn::Error::BuiltWithCuda | nn::Error::NoSuchCard { .. }),
        ) => {
            let help = "`device` may be left out: a program computes on what it was built for";
            let problem = Problem::new("device", error.to_string()).help(help);
            return Err(recipe.diagnose(vec![problem]).into());
        }
        Err(error) => return Err(error.into()),
    }
    if experiment.train.checkpoint_activations && name != DeviceName::Cpu {
        tracing::warn!("`train.checkpoint_activations` saves nothing on {name}: activations are kept there");
    }
    Ok(())
}
