//! The head of finetuning.

use convmae_framework::component::{Head, HeadInputs, HeadModule, Problem, Task};
use convmae_framework::nn::layers::{LayerNorm, Linear};
use convmae_framework::nn::ops::{Criterion, Reduction};
use convmae_framework::nn::{Init, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::classifier::{self, Classifier, Pool};
use crate::checks;
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
    /// Weight of each class in the loss of training; 1 if left out (`weight` of `PyTorch`'s `CrossEntropyLoss`).
    /// Smoothing is weighted class by class; the sum of the losses is divided by that of the weights of the
    /// images' classes, in a batch with mixed images by the number of images.
    #[serde(default)]
    #[schemars(extend("examples" = [[0.1, 1.0, 1.0]]))]
    pub class_weight: Option<Vec<f32>>,
    /// Standard deviation of the linear layer's first weights; 0.02 in a model from scratch
    /// (`vision_transformer.py`).
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
        let class_weight = checks::class_weight(self.class_weight.as_deref(), self.num_classes)?;
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
            criterion: Criterion {
                smoothing: self.label_smoothing,
                class_weight,
                reduction: Reduction::Mean,
            },
            level,
        }))
    }
}

convmae_framework::register!(Head: ClassificationHead);
