//! A head of which it is known beforehand what evaluation makes of it.

use convmae_framework::component::{
    Features, Head, HeadInputs, HeadModule, Loss, Macs, Prediction, Problem, Regions, RoiMask, Task,
};
use convmae_framework::data::{Batch, Instances};
use convmae_framework::nn::layers::Linear;
use convmae_framework::nn::{self, Context, Scope, Tensor, ops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Finds the objects that are annotated, with masks that cover their boxes, and after them the whole image as an object of the first
/// class. What it is trained on matters to none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownObjectsHead {
    /// Classes of objects, those of the dataset.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
}

#[typetag::serde]
impl Head for KnownObjectsHead {
    fn task(&self) -> Task {
        Task::Detect { classes: self.num_classes }
    }

    fn build(&self, scope: &Scope, inputs: &HeadInputs) -> Result<Box<dyn HeadModule>, Problem> {
        let Some(level) = inputs.levels.last() else {
            return Err(Problem::new("from", "no features reach this head").help("name a backbone"));
        };
        let vote = Linear::new(&scope.child("known_objects"), level.channels, 1);
        Ok(Box::new(KnownObjectsModule { tokens: level.tokens(), vote }))
    }
}

convmae_framework::register!(Head: KnownObjectsHead);

struct KnownObjectsModule {
    tokens: usize,
    vote: Linear,
}

impl HeadModule for KnownObjectsModule {
    fn macs(&self) -> Macs {
        Macs::same(self.vote.macs(self.tokens))
    }

    fn loss(&self, features: &Features, _: &Batch, ctx: &Context) -> nn::Result<Vec<Loss>> {
        let level = features.levels.last();
        let level = level.ok_or_else(|| nn::Error::Value("there are no features".to_owned()))?;
        let votes: Tensor = self.vote.forward(level.tokens.clone(), ctx)?;
        let (images, tokens, _) = votes.dims3()?;
        let value = ops::masked_mse(votes, vec![0.0; images * tokens], &vec![1.0; images * tokens])?;
        Ok(vec![Loss { name: "votes".to_owned(), weight: 1.0, value }])
    }

    fn predict(&self, _: &Features, batch: &Batch, _: &Context) -> nn::Result<Prediction> {
        let found = |(objects, &[height, width]): (&Instances, &[usize; 2])| {
            let mut boxes = objects.boxes.clone();
            boxes.push([0.0, 0.0, width as f32, height as f32]);
            let classes = objects.classes.iter().copied().chain([0]).collect();
            let scores = (0..boxes.len()).map(|at| if at < objects.len() { 0.9 } else { 0.6 }).collect();
            let masks = vec![RoiMask(vec![1.0; 28 * 28]); boxes.len()];
            Regions { boxes, scores, classes, masks, ..Regions::default() }
        };
        let objects = batch.targets.iter().map(|target| &target.instances);
        Ok(Prediction::Instances(objects.zip(&batch.sizes).map(found).collect()))
    }
}
