//! The head of linear probing.

use convmae_framework::component::{Head, HeadInputs, HeadModule, Problem, Task};
use convmae_framework::nn::layers::{BatchNorm, LayerNorm, Linear};
use convmae_framework::nn::ops::Criterion;
use convmae_framework::nn::{Init, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::classifier::{self, Classifier, Pool};
use crate::checks;
use crate::transformer::TRANSFORMER_EPS;

/// Tells the class of an image from features that are not trained: a batch normalisation without scale and
/// shift, and a linear layer, trained by plain cross entropy (`main_linprobe.py` of the official code). Give
/// the backbone `frozen: true`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearProbeHead {
    /// Classes to tell apart: as many as the dataset has.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub num_classes: usize,
    /// What of the tokens describes the image. The norm of `mean` is not trained, as in the official code:
    /// unless the weights have one, it neither scales nor shifts.
    #[serde(default = "default_pool")]
    pub pool: Pool,
    /// Weight of each class in the loss of training; 1 if left out (`weight` of `PyTorch`'s `CrossEntropyLoss`):
    /// the sum of the losses is divided by that of the weights of the images' classes, in a batch with mixed
    /// images by the number of images.
    #[serde(default)]
    #[schemars(extend("examples" = [[0.1, 1.0, 1.0]]))]
    pub class_weight: Option<Vec<f32>>,
    /// Standard deviation of the linear layer's first weights.
    #[serde(default = "default_init_std")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub init_std: f32,
}

fn default_pool() -> Pool {
    Pool::FirstToken
}

fn default_init_std() -> f32 {
    0.01
}

/// Epsilon of the batch normalisation.
const BATCH_NORM_EPS: f32 = 1e-6;

#[typetag::serde]
impl Head for LinearProbeHead {
    fn task(&self) -> Task {
        Task::Classify { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let level = classifier::level(inputs)?;
        let class_weight = checks::class_weight(self.class_weight.as_deref(), self.num_classes)?;
        let channels = level.channels;
        let norm = || LayerNorm::new(&scope.freeze().child("fc_norm"), channels, TRANSFORMER_EPS);
        let head = scope.child("head");
        Ok(Box::new(Classifier {
            pool: self.pool,
            fc_norm: (self.pool == Pool::Mean).then(norm),
            batch_norm: Some(BatchNorm::without_affine(&head.child(0), channels, BATCH_NORM_EPS)),
            head: Linear::with_init(
                &head.child(1),
                channels,
                self.num_classes,
                &Init::trunc_normal(self.init_std),
                Some(&Init::ZEROS),
            ),
            criterion: Criterion { class_weight, ..Criterion::default() },
            level,
        }))
    }
}

convmae_framework::register!(Head: LinearProbeHead);
