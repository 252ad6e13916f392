//! Evaluation over a whole dataset.

mod measure;
mod outputs;
mod support;

pub use measure::Measure;
pub use outputs::{Predictor, instances, label_maps};

use crate::component::{ClassFigures, Confusion, Loss, Needs, TaskKind};
use crate::data::{Batch, DataError};
use crate::distributed::{Communicator, SingleProcess};
use crate::graph::Model;
use crate::loader::{Loader, Share};
use crate::metrics::coco::ResultsFile;
use crate::nn::Context;
use crate::random::{self, Purpose};
use crate::report::FeatureMap;

use super::EngineError;
use super::together::{first, gather, together};
use measure::Running;

/// The metrics of an evaluation, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// In the order of the evaluators.
    pub metrics: Vec<(String, f64)>,
    /// What was measured class by class.
    pub classes: Vec<ClassFigures>,
    /// Which classes of images are taken for which, as the first evaluator says that measures it.
    pub confusion: Option<Confusion>,
    /// Features of images that this process has evaluated, those of the first evaluator that needs features.
    pub map: Option<FeatureMap>,
}

impl Evaluation {
    /// Evaluates a model on every sample once. Masks are the same every time, whatever the batch size. What
    /// the processes have measured of their shares is put together, so that each has the metrics of all samples. The objects that are
    /// found go to `results`, too, if there is such a file: that of the first process has all of them.
    pub fn run(
        predictor: Predictor<'_>,
        loader: &Loader,
        measures: &[Measure],
        seed: u64,
        communicator: &dyn Communicator,
        results: Option<&mut ResultsFile>,
    ) -> Result<Self, EngineError> {
        let batches = loader.epoch_of(share(loader, communicator), 0, 0);
        Self::over(predictor, loader, batches, measures, seed, communicator, results)
    }

    /// As [`run`](Self::run), on the first batch alone, in one process.
    pub fn try_out(
        predictor: Predictor<'_>,
        loader: &Loader,
        measures: &[Measure],
        seed: u64,
    ) -> Result<Self, EngineError> {
        let batches = loader.epoch(0, 0).take(1);
        Self::over(predictor, loader, batches, measures, seed, &SingleProcess, None)
    }

    fn over(
        predictor: Predictor<'_>,
        loader: &Loader,
        mut batches: impl Iterator<Item = Result<Batch, DataError>>,
        measures: &[Measure],
        seed: u64,
        communicator: &dyn Communicator,
        mut results: Option<&mut ResultsFile>,
    ) -> Result<Self, EngineError> {
        let needs: Vec<_> = measures.iter().map(|measure| measure.evaluator.needs()).collect();
        let needs_losses = needs.contains(&Needs::Losses);
        let tasks = needs.iter().filter_map(|needs| match needs {
            Needs::Predictions(task) => Some(*task),
            Needs::Losses | Needs::Features => None,
        });
        let tasks: Vec<TaskKind> = tasks.chain(results.as_ref().map(|_| TaskKind::Detect)).collect();
        let samples = loader.pipeline().samples.as_ref();
        let mut first_image = (share(loader, communicator).number(0) * loader.batch_size()) as u64;
        let started = measures.iter().map(|measure| Running::start(measure, samples)).collect();
        let mut running: Vec<_> = together(communicator, started)?;
        let measure = |batch: Result<Batch, DataError>| {
            let batch = batch?;
            check_classes(predictor.model, &batch)?;
            let ctx = Context::eval(random::stream(Purpose::Evaluate, &[seed])).with_first_image(first_image);
            first_image += batch.len() as u64;
            let mut asked = predictor.ask(&batch, &ctx);
            let losses = if needs_losses { values(asked.losses()?)? } else { Vec::new() };
            let predictions = asked.predictions(&tasks)?;
            if let (Some(results), Some(found)) = (results.as_deref_mut(), instances(&predictions)) {
                results.add(&batch, found)?;
            }
            running.iter_mut().try_for_each(|running| running.update(&losses, &predictions, &batch, &ctx))
        };
        let measured = batches.try_for_each(measure);
        for corrupt in gather(communicator, measured.map(|()| loader.corrupt()))? {
            loader.remember_corrupt(corrupt);
        }
        loader.check_corrupt()?;
        if let Some(results) = results {
            let handed_over = gather(communicator, Ok(results.hand_over()))?;
            first(communicator, || {
                Ok(handed_over.into_iter().try_for_each(|images| results.take(images))?)
            })?;
        }
        let mut evaluation = Self::default();
        for (measure, running) in measures.iter().zip(running) {
            let mut whole = measure.meter(samples);
            for state in communicator.all_gather(&running.state())? {
                whole.merge(&state)?;
            }
            let metrics = whole.finish();
            if metrics.is_empty() {
                return Err(EngineError::NothingMeasured(measure.evaluator.best().0));
            }
            evaluation.metrics.extend(metrics);
            evaluation.classes.extend(whole.classes());
            evaluation.confusion = evaluation.confusion.or_else(|| whole.confusion());
            evaluation.map = evaluation.map.or_else(|| running.map());
        }
        Ok(evaluation)
    }

    /// A metric by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }
}

/// Which batches a process evaluates.
fn share(loader: &Loader, communicator: &dyn Communicator) -> Share {
    Share::of_all(communicator.rank(), communicator.size(), loader.batches())
}

/// Refuses images with a class that a head does not tell apart: no figure of them would be right.
fn check_classes(model: &Model, batch: &Batch) -> Result<(), EngineError> {
    for task in [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect] {
        for (head, classes) in model.heads().classes(task) {
            for (image, target) in batch.ids.iter().zip(&batch.targets) {
                let class = task.largest_class(target).filter(|&class| class >= classes);
                if let Some(class) = class {
                    let (image, head) = (image.clone(), head.to_owned());
                    return Err(EngineError::UnknownClass { image, class, head, classes });
                }
            }
        }
    }
    Ok(())
}

/// The weighted sum of a batch's losses (`loss`), then each by name if there are several.
fn values(losses: Vec<Loss>) -> Result<Vec<(String, f64)>, EngineError> {
    let (mut total, mut named) = (0.0, Vec::new());
    for loss in losses {
        let value = f64::from(loss.value.to_vec()?[0]);
        total += f64::from(loss.weight) * value;
        named.push((loss.name, value));
    }
    if named.len() < 2 {
        named.clear();
    }
    named.insert(0, ("loss".to_owned(), total));
    Ok(named)
}
