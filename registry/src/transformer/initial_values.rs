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

/// Asserts that values were drawn by [`InitialValues::trunc_normal`].
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_trunc_normal(name: &str, drawn: &[f32]) {
    let std = (drawn.iter().map(|value| value * value).sum::<f32>() / drawn.len() as f32).sqrt();
    assert!((std / 0.02 - 1.0).abs() < 0.05, "{name}: {std}");
    // Of a uniform distribution no value would lie beyond 1.73 deviations.
    assert!(drawn.iter().any(|value| value.abs() > 0.05), "{name}");
}
