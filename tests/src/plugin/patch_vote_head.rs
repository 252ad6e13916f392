//! A head of classes of pixels: every patch votes for all of its pixels.

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, Loss, Macs, PixelLogits, Prediction, Problem, Semantic, Task,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::ops::{self, ClassTarget, Criterion};
use convmae_framework::nn::{self, Context, Error, Scope, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives all pixels of a patch of the last level the same class.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchVoteHead {
    /// Classes of pixels, those of the dataset's label maps.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
}

#[typetag::serde]
impl Head for PatchVoteHead {
    fn task(&self) -> Task {
        Task::Segment { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let level = inputs.levels.last().filter(|level| level.cell == 1 && level.prefix_tokens == 0);
        let Some(level) = level else {
            return Err(Problem::new("from", "needs a level of patches").help("name a `ConvViT`"));
        };
        let (height, width) = (inputs.image.height, inputs.image.width);
        let patch = |at: usize| (at / width / level.stride * level.cols + at % width / level.stride) as u32;
        Ok(Box::new(PatchVoteModule {
            vote: Linear::new(&scope.child("patch_vote"), level.channels, self.num_classes),
            patches: (0..height * width).map(patch).collect(),
            tokens: level.tokens(),
            shape: [height, width, self.num_classes],
        }))
    }
}

convmae_framework::register!(Head: PatchVoteHead);

struct PatchVoteModule {
    vote: Linear,
    /// The patch of every pixel.
    patches: Vec<u32>,
    tokens: usize,
    /// Of the logits of an image.
    shape: [usize; 3],
}

impl PatchVoteModule {
    /// `[B, H * W, K]`.
    fn logits(&self, features: &Features, images: usize, ctx: &Context) -> nn::Result<Tensor> {
        let level = features.levels.last();
        let level = level.ok_or_else(|| Error::Value("no features reached the votes".to_owned()))?;
        let votes = self.vote.forward(level.tokens.clone(), ctx)?;
        ops::gather_tokens(votes, &self.patches.repeat(images))
    }
}

impl HeadModule for PatchVoteModule {
    fn macs(&self) -> Macs {
        Macs::same(self.vote.macs(self.tokens))
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        let mut targets = Vec::new();
        for (id, target) in batch.ids.iter().zip(&batch.targets) {
            let map = target.semantic.as_ref();
            let map = map.ok_or_else(|| Error::Value(format!("{id} has no label map")))?;
            let target = |&class: &u8| (class != 255).then(|| ClassTarget::of(u32::from(class)));
            targets.extend(map.as_raw().iter().map(target));
        }
        let logits = self.logits(features, batch.len(), ctx)?;
        let value = ops::cross_entropy(logits, &targets, &Criterion::default())?;
        Ok(vec![Loss { name: "cross_entropy".to_owned(), weight: 1.0, value }])
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        let [height, width, classes] = self.shape;
        let values = self.logits(features, batch.len(), ctx)?.to_vec()?;
        let logits = PixelLogits { values, height, width, classes };
        Ok(Prediction::Semantic(Semantic::of(logits, batch)))
    }
}
