//! A head with an image-level target that needs no labels: the mean colour.

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, Loss, Macs, Prediction, Problem, Task,
};
use convmae_framework::data::Batch;
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::{self, Context, Scope, Tensor, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets every visible token vote for the mean colour of its image; the prediction is the mean of the votes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanColorHead {}

#[typetag::serde]
impl Head for MeanColorHead {
    fn task(&self) -> Task {
        Task::Other
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let Some(level) = inputs.levels.last() else {
            return Err(Problem::new("from", "no features reach this head").help("name a backbone"));
        };
        Ok(Box::new(MeanColorModule {
            tokens: level.tokens(),
            vote: Linear::new(&scope.child("mean_color"), level.channels, CHANNELS),
        }))
    }
}

convmae_framework::register!(Head: MeanColorHead);

const CHANNELS: usize = 3;

struct MeanColorModule {
    tokens: usize,
    vote: Linear,
}

impl MeanColorModule {
    /// `[B, N, 3]`: a colour per token.
    fn votes(&self, features: &Features, ctx: &Context) -> nn::Result<Tensor> {
        let level = features.levels.last();
        let level = level.ok_or_else(|| nn::Error::Value("the mean colour has no features".to_owned()))?;
        self.vote.forward(level.tokens.clone(), ctx)
    }
}

impl HeadModule for MeanColorModule {
    fn macs(&self) -> Macs {
        Macs::same(self.vote.macs(self.tokens))
    }

    fn loss(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        let votes = self.votes(features, ctx)?;
        let (_, tokens, _) = votes.dims3()?;
        let target: Vec<f32> =
            mean_colors(batch).into_iter().flat_map(|color| color.repeat(tokens)).collect();
        // Every vote counts.
        let value = ops::masked_mse(votes, target, &vec![1.0; batch.len() * tokens])?;
        Ok(vec![Loss { name: "mean_color".to_owned(), weight: 1.0, value }])
    }

    fn predict(&self, features: &Features, batch: &Batch, ctx: &Context) -> nn::Result<Prediction> {
        let votes = self.votes(features, ctx)?;
        let (_, tokens, _) = votes.dims3()?;
        let votes = votes.to_vec()?;
        let mean = |votes: &[f32], channel| {
            votes.iter().skip(channel).step_by(CHANNELS).sum::<f32>() / tokens as f32
        };
        let colors = votes
            .chunks_exact(tokens * CHANNELS)
            .flat_map(|votes| (0..CHANNELS).map(move |channel| mean(votes, channel)))
            .collect();
        let colors = (vec![batch.len(), CHANNELS], colors);
        Ok(Prediction::Arrays([("mean_color".to_owned(), colors)].into()))
    }
}

/// The mean of every (normalised) channel, image by image.
fn mean_colors(batch: &Batch) -> Vec<[f32; CHANNELS]> {
    let area = batch.height * batch.width;
    let mean =
        |image: &[f32], channel: usize| image[channel * area..][..area].iter().sum::<f32>() / area as f32;
    let images = (0..batch.len()).map(|image| batch.images.image(image));
    images.map(|image| std::array::from_fn(|channel| mean(&image, channel))).collect()
}
