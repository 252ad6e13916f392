//! What evaluators of features work with: the model without masks, and images whose classes are known.

use std::sync::Arc;

use crate::component::{FeatureNeeds, MeterError, Problem, Support};
use crate::data::Batch;
use crate::engine::EngineError;
use crate::engine::features::{FeatureExtractor, model_of_features};
use crate::engine::setup::Loading;
use crate::experiment::{Experiment, Split};
use crate::graph::Model;
use crate::loader::{Loader, LoaderOptions, Pipeline};
use crate::nn::{Context, Scope};
use crate::random::{self, Purpose};
use crate::recipe::Recipe;

/// Images whose classes are known, and what computes features of them and of others.
pub struct SupportSet {
    extractor: FeatureExtractor,
    loader: Loader,
}

impl SupportSet {
    /// What the evaluator at a position needs. The features are those of `model`'s present weights, always.
    pub fn open(
        recipe: &Recipe,
        position: usize,
        needs: FeatureNeeds<'_>,
        model: &Model,
    ) -> Result<Self, EngineError> {
        let Experiment { data, seed, .. } = recipe.deserialize("")?;
        let loading = Loading::of(&data);
        let whole = model_of_features(recipe, model.image, &Scope::sharing(&model.params()))?;
        let extractor = FeatureExtractor::new(whole, needs.level, needs.pooling)?;
        let (key, dataset) = match needs.support {
            Some(dataset) => (format!("evaluate.evaluators.{position}.support"), dataset),
            None => ("data.train.dataset".to_owned(), data.train.dataset.as_ref()),
        };
        let Split { transforms, pad_to, batch_size, .. } = data.val.ok_or_else(|| {
            EngineError::Usage(format!("{}: there is no `data.val`", recipe.path().display()))
        })?;
        let channels = model.image.channels;
        let loader = dataset.open().and_then(|samples| {
            let pipeline =
                Pipeline { samples, transforms, batch_transforms: Vec::new(), pad_to, channels, seed };
            Loader::new(Arc::new(pipeline), loading.options(LoaderOptions::evaluate(batch_size)))
        });
        let loader = loader.map_err(|error| recipe.diagnose(vec![Problem::new(key, error.to_string())]))?;
        Ok(Self { extractor, loader })
    }

    /// Which level the features are of: `backbone.s3`.
    pub fn level(&self) -> &str {
        self.extractor.name()
    }

    /// Features of a batch, `[B, C]`, each of length 1; of several tokens an image's one after the other.
    pub fn extract(&self, batch: &Batch, ctx: &Context) -> Result<Vec<f32>, EngineError> {
        let (mut features, _) = self.extractor.extract(batch, ctx)?;
        let channels = features.len() / batch.len();
        for feature in features.chunks_exact_mut(channels.max(1)) {
            let length = feature.iter().map(|value| value * value).sum::<f32>().sqrt();
            // As of PyTorch's `normalize`.
            feature.iter_mut().for_each(|value| *value /= length.max(1e-12));
        }
        Ok(features)
    }

    /// The features of the support set.
    pub fn features(&self) -> Result<Support, EngineError> {
        let mut support = Support::default();
        for batch in self.loader.epoch(0, 0) {
            let batch = batch?;
            // Whole images: nothing is drawn.
            let ctx = Context::eval(random::stream(Purpose::Evaluate, &[]));
            support.features.extend(self.extract(&batch, &ctx)?);
            for (image, target) in batch.ids.iter().zip(&batch.targets) {
                let no_class = || MeterError::NoTarget { image: image.clone(), what: "class" };
                support.classes.push(target.class.ok_or_else(no_class)?);
            }
        }
        Ok(support)
    }
}
