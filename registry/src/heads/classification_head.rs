//! The head of finetuning.

use convmae_framework::component::{Head, HeadInputs, HeadModule, Problem, Task};
use convmae_framework::nn::layers::{LayerNorm, Linear};
use convmae_framework::nn::{Init, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::classifier::{self, Classifier, Pool};
use crate::transformer::TRANSFORMER_EPS;

/// Tells the class of an image from the last level's tokens: pooled, normalised, and a linear layer
/// (`models_convvit.py` and `main_finetune.py` of the official code). Trained by cross entropy with smoothed,
/// possibly mixed labels; evaluated by plain cross entropy.
///
/// With `pool: mean` the head has its own norm, so a `ConvViT` is to have `final_norm: false`; with
/// `first_token` it takes the tokens as they are, normalised by the backbone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassificationHead {
    /// Classes to tell apart: as many as the dataset has.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub num_classes: usize,
    /// What of the tokens describes the image.
    #[serde(default = "default_pool")]
    pub pool: Pool,
    /// Share of a label that is spread over all classes in training (official finetuning: 0.1).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f32,
    /// Standard deviation of the linear layer's first weights.
    #[serde(default = "default_init_std")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub init_std: f32,
}

fn default_pool() -> Pool {
    Pool::Mean
}

fn default_init_std() -> f32 {
    2e-5
}

#[typetag::serde]
impl Head for ClassificationHead {
    fn task(&self) -> Task {
        Task::Classify { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let level = classifier::level(inputs)?;
        let channels = level.channels;
        let norm = || LayerNorm::new(&scope.child("fc_norm"), channels, TRANSFORMER_EPS);
        Ok(Box::new(Classifier {
            pool: self.pool,
            fc_norm: (self.pool == Pool::Mean).then(norm),
            batch_norm: None,
            head: Linear::with_init(
                &scope.child("head"),
                channels,
                self.num_classes,
                &Init::trunc_normal(self.init_std),
                Some(&Init::ZEROS),
            ),
            label_smoothing: self.label_smoothing,
            level,
        }))
    }
}

convmae_framework::register!(Head: ClassificationHead);
