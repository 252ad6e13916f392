//! Evaluation over a whole dataset.

mod outputs;

pub use outputs::{Predictor, instances, label_maps};

use crate::component::{ClassFigures, Evaluator, Loss, Measured, Needs, Prediction, TaskKind};
use crate::data::Batch;
use crate::distributed::Communicator;
use crate::graph::Model;
use crate::loader::Loader;
use crate::metrics::coco::ResultsFile;
use crate::nn::Context;
use crate::random::{self, Purpose};

use super::EngineError;

/// The metrics of an evaluation, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// In the order of the evaluators.
    pub metrics: Vec<(String, f64)>,
    /// What was measured class by class.
    pub classes: Vec<ClassFigures>,
}

impl Evaluation {
    /// Evaluates a model on every sample once. Masks are the same every time, whatever the batch size. What
    /// the processes have measured is put together, so that each has the metrics of all samples. The objects that are found go to
    /// `results`, too, if there is such a file.
    pub fn run(
        predictor: Predictor<'_>,
        loader: &Loader,
        evaluators: &[Box<dyn Evaluator>],
        seed: u64,
        communicator: &dyn Communicator,
        mut results: Option<&mut ResultsFile>,
    ) -> Result<Self, EngineError> {
        let needs: Vec<_> = evaluators.iter().map(|evaluator| evaluator.needs()).collect();
        let needs_losses = needs.contains(&Needs::Losses);
        let tasks = needs.iter().filter_map(|needs| match needs {
            Needs::Predictions(task) => Some(*task),
            Needs::Losses => None,
        });
        let tasks: Vec<TaskKind> = tasks.chain(results.as_ref().map(|_| TaskKind::Detect)).collect();
        let samples = &loader.pipeline().samples;
        let new_meter = |evaluator: &dyn Evaluator| match evaluator.needs() {
            Needs::Predictions(task) => evaluator.meter(samples.classes(task).unwrap_or_default()),
            Needs::Losses => evaluator.meter(&[]),
        };
        let mut meters: Vec<_> = evaluators.iter().map(|evaluator| new_meter(evaluator.as_ref())).collect();
        let mut images = 0;
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            check_classes(predictor.model, &batch)?;
            let ctx = Context::eval(random::stream(Purpose::Evaluate, &[seed])).with_first_image(images);
            images += batch.len() as u64;
            let mut asked = predictor.ask(&batch, &ctx);
            let losses = if needs_losses { values(asked.losses()?)? } else { Vec::new() };
            let predictions = asked.predictions(&tasks)?;
            if let (Some(results), Some(found)) = (results.as_deref_mut(), instances(&predictions)) {
                results.add(&batch, found)?;
            }
            for (meter, needs) in meters.iter_mut().zip(&needs) {
                match needs {
                    Needs::Losses => meter.update(Measured::Losses(&losses), &batch)?,
                    Needs::Predictions(task) => {
                        let of_task = |prediction: &&Prediction| prediction.task() == *task;
                        let predictions: Vec<_> = predictions.iter().filter(of_task).collect();
                        meter.update(Measured::Predictions(&predictions), &batch)?;
                    }
                }
            }
        }
        let mut evaluation = Self::default();
        for (evaluator, meter) in evaluators.iter().zip(meters) {
            let mut whole = new_meter(evaluator.as_ref());
            for state in communicator.all_gather(&meter.state())? {
                whole.merge(&state)?;
            }
            let metrics = whole.finish();
            if metrics.is_empty() {
                return Err(EngineError::NothingMeasured(evaluator.best().0));
            }
            evaluation.metrics.extend(metrics);
            evaluation.classes.extend(whole.classes());
        }
        Ok(evaluation)
    }

    /// A metric by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }
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
