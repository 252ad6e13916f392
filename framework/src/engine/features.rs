//! Features of whole images: what backbones and necks make of them.

use super::EngineError;
use crate::component::{ImageShape, Pooling, Problem};
use crate::data::Batch;
use crate::experiment::{Experiment, Nodes};
use crate::graph::{Model, Plan};
use crate::nn::{Context, Scope};
use crate::recipe::Recipe;

/// Builds those parts of a recipe's model alone that yield features of whole images: without maskers and heads.
///
/// # Errors
/// What is wrong with them.
pub fn model_of_features(recipe: &Recipe, image: ImageShape, scope: &Scope) -> Result<Model, EngineError> {
    let experiment: Experiment = recipe.deserialize("")?;
    let Nodes(nodes) = experiment.model;
    let built = Plan::new(Nodes(nodes).features()).and_then(|plan| Model::build(&plan, image, scope));
    let within_model = |problem: Problem| problem.within("model");
    built.map_err(|problems| recipe.diagnose(problems.into_iter().map(within_model).collect()).into())
}

/// A model, and which of its features are wanted.
pub struct FeatureExtractor {
    model: Model,
    node: String,
    level: String,
    name: String,
    pooling: Pooling,
}

impl FeatureExtractor {
    /// The features of a backbone or a neck, or of one of its levels; of the last one if none is named.
    ///
    /// # Errors
    /// If the model has no such features.
    pub fn new(model: Model, wanted: Option<&str>, pooling: Pooling) -> Result<Self, EngineError> {
        let (node, level) = model.level(wanted).map_err(EngineError::Usage)?;
        let (level, name) = (level.name.clone(), format!("{node}.{}", level.name));
        Ok(Self { model, node, level, name, pooling })
    }

    /// Which level they are of: `backbone.s3`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Those of a batch, `[B, T, C]`, with the number of tokens `T` of an image.
    ///
    /// # Errors
    /// If the images are not of the model's size, or the device fails.
    pub fn extract(&self, batch: &Batch, ctx: &Context) -> Result<(Vec<f32>, usize), EngineError> {
        let outputs = self.model.forward(batch, ctx)?;
        let features = self.model.features(&outputs, &self.node);
        let mut levels = features.into_iter().flat_map(|features| &features.levels);
        let level = levels.find(|level| level.shape.name == self.level);
        let missing = || EngineError::Usage(format!("`{}` yields nothing", self.name));
        let pooled = self.pooling.apply(level.ok_or_else(missing)?)?;
        let tokens = pooled.dims().get(1).copied().unwrap_or(1);
        Ok((pooled.to_vec()?, tokens))
    }
}
