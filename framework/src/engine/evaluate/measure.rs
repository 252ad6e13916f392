//! The evaluators of a recipe at work.

use super::support::SupportSet;
use crate::component::{Evaluator, Measured, Meter, Needs, Prediction, Samples, Support, TaskKind};
use crate::data::Batch;
use crate::engine::EngineError;
use crate::graph::Model;
use crate::nn::Context;
use crate::recipe::Recipe;
use crate::report::{FeatureMap, MapCollector};

/// An evaluator of a recipe, with its support set if it has one.
pub struct Measure {
    /// The evaluator.
    pub evaluator: Box<dyn Evaluator>,
    support: Option<SupportSet>,
}

impl Measure {
    /// The evaluators of a recipe for a model of it; support sets are opened, and no image is read.
    ///
    /// # Errors
    /// If a support set cannot be opened, at its place in the recipe.
    pub fn all(
        recipe: &Recipe,
        evaluators: Vec<Box<dyn Evaluator>>,
        model: &Model,
    ) -> Result<Vec<Self>, EngineError> {
        let measure = |(position, evaluator): (usize, Box<dyn Evaluator>)| {
            let open = || SupportSet::open(recipe, position, evaluator.features(), model);
            let support = (evaluator.needs() == Needs::Features).then(open).transpose()?;
            Ok(Self { evaluator, support })
        };
        evaluators.into_iter().enumerate().map(measure).collect()
    }

    /// A meter that has seen nothing yet, for data.
    pub fn meter(&self, samples: &dyn Samples) -> Box<dyn Meter> {
        let classes = match self.evaluator.needs() {
            Needs::Predictions(task) => samples.classes(task),
            Needs::Losses | Needs::Features => None,
        };
        self.evaluator.meter(classes.unwrap_or_default())
    }
}

/// An evaluator on its way through a dataset.
pub struct Running<'a> {
    measure: &'a Measure,
    meter: Box<dyn Meter>,
    features: Option<Features<'a>>,
}

/// What an evaluator of features works with.
struct Features<'a> {
    set: &'a SupportSet,
    /// By the present weights.
    support: Support,
    map: MapCollector,
    class_names: &'a [String],
}

impl<'a> Running<'a> {
    /// Before the first batch of `samples`.
    ///
    /// # Errors
    /// If features of a support set are needed, and cannot be computed.
    pub fn start(measure: &'a Measure, samples: &'a dyn Samples) -> Result<Self, EngineError> {
        let of_set = |set: &'a SupportSet| {
            let class_names = samples.classes(TaskKind::Classify).unwrap_or_default();
            let map = MapCollector::new(samples.len());
            Ok::<_, EngineError>(Features { set, support: set.features()?, map, class_names })
        };
        let features = measure.support.as_ref().map(of_set).transpose()?;
        Ok(Self { measure, meter: measure.meter(samples), features })
    }

    /// Takes what is known of a batch, and computes its features if they are needed.
    pub fn update(
        &mut self,
        losses: &[(String, f64)],
        predictions: &[Prediction],
        batch: &Batch,
        ctx: &Context,
    ) -> Result<(), EngineError> {
        match (self.measure.evaluator.needs(), &mut self.features) {
            (Needs::Predictions(task), _) => {
                let of_task = |prediction: &&Prediction| prediction.task() == task;
                let predictions: Vec<_> = predictions.iter().filter(of_task).collect();
                self.meter.update(Measured::Predictions(&predictions), batch)?;
            }
            (_, Some(Features { set, support, map, class_names })) => {
                let features = set.extract(batch, ctx)?;
                self.meter.update(Measured::Features { features: &features, support }, batch)?;
                let vectors = features.chunks_exact((features.len() / batch.len()).max(1));
                for (vector, (image, target)) in vectors.zip(batch.ids.iter().zip(&batch.targets)) {
                    let class = || {
                        target
                            .class
                            .map(|class| class_names.get(class).cloned().unwrap_or_else(|| class.to_string()))
                    };
                    map.add(vector, || (image.clone(), class()));
                }
            }
            (_, None) => self.meter.update(Measured::Losses(losses), batch)?,
        }
        Ok(())
    }

    /// The features in two dimensions, if features were measured.
    pub fn map(self) -> Option<FeatureMap> {
        let Features { set, map, .. } = self.features?;
        Some(map.finish(set.level()))
    }

    /// What the meter has collected.
    pub fn state(&self) -> Vec<u8> {
        self.meter.state()
    }
}
