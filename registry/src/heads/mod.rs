//! Heads: features to losses and predictions.

mod classification_head;
mod classifier;
mod fcn_head;
mod linear_probe_head;
mod mae_decoder;
mod pixel_classifier;
mod uper_head;

pub use classification_head::ClassificationHead;
pub use classifier::Pool;
pub use fcn_head::FcnHead;
pub use linear_probe_head::LinearProbeHead;
pub use mae_decoder::MaeDecoder;
pub use uper_head::UperHead;

use convmae_framework::component::{HeadInputs, LevelShape, Problem};

/// The levels of a head that has to see whole images: the last one, and those before it.
fn unmasked_levels(inputs: &HeadInputs) -> Result<(&LevelShape, &[LevelShape]), Problem> {
    if inputs.mask.is_some() {
        return Err(Problem::new("", "its features are masked: it would see a part of each image")
            .help("remove the masker from the model, and the `from` of the backbone that names it"));
    }
    let none = || Problem::new("from", "no features reach this head").help("name a backbone");
    inputs.levels.split_last().ok_or_else(none)
}
