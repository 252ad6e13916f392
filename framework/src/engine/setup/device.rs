//! The device of a recipe.

use crate::component::Problem;
use crate::experiment::Experiment;
use crate::nn::{self, Precision};
use crate::recipe::Recipe;

use crate::engine::EngineError;

/// Opens the device of a recipe. Comes before anything is built: without one, nothing else is worth opening.
pub fn open_device(recipe: &Recipe, experiment: &Experiment) -> Result<(), EngineError> {
    let name = experiment.device.unwrap_or_default();
    let refused = |key: &str, error: nn::Error, help: &str| {
        recipe.diagnose(vec![Problem::new(key, error.to_string()).help(help)]).into()
    };
    match nn::device::select(name) {
        Ok(()) => {}
        Err(
            error @ (nn::Error::BuiltWithoutCuda | nn::Error::BuiltWithCuda | nn::Error::NoSuchCard { .. }),
        ) => {
            let help = "`device` may be left out: a program computes on what it was built for";
            return Err(refused("device", error, help));
        }
        Err(error) => return Err(error.into()),
    }
    nn::device::set_precision(experiment.precision)
        .map_err(|error| refused("precision", error, "`tf32` is for a card: `device: cuda`"))?;
    if experiment.precision == Some(Precision::Bf16) && !nn::device::computes_in_bf16() {
        tracing::warn!(
            "precision: this processor has no instructions for bf16 that are faster than those for f32 (AMX; on AMD AVX512-BF16): \
             products are computed in f32"
        );
    }
    Ok(())
}
