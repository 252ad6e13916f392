//! With which values a backbone starts.

use convmae_framework::nn::{Init, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// With which values the parameters of a backbone start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialValues {
    /// Those of pretraining (`initialize_weights` of `models_convmae.py` and of `models_mae.py`): linear layers,
    /// and the last projection of patches, are Xavier-uniform, position embeddings sines and cosines.
    #[default]
    Mae,
    /// Those of a classifier or a segmentor that is trained from scratch (`vision_transformer.py` and
    /// `SEG/backbone/convmae.py` of the official code; timm's `VisionTransformer`): linear layers, and position
    /// embeddings if they are trained, are truncated-normal with a deviation of 0.02, projections of patches
    /// as `PyTorch` has convolutions.
    Timm,
}

impl InitialValues {
    /// timm's `trunc_normal_(std=.02)`.
    pub fn trunc_normal() -> Init {
        Init::trunc_normal(0.02)
    }

    /// The scope whose linear layers start so.
    pub fn within(self, scope: &Scope) -> Scope {
        match self {
            Self::Mae => scope.clone(),
            Self::Timm => scope.with_linear_init(|_, _| Self::trunc_normal()),
        }
    }
}
