//! Evaluation over a whole dataset.

mod outputs;

pub use outputs::{Predictor, label_maps};

use crate::component::{Evaluator, Loss, Measured, Needs, Prediction, TaskKind};
use crate::distributed::Communicator;
use crate::loader::Loader;
use crate::nn::Context;
use crate::random::{self, Purpose};

use super::EngineError;

/// The metrics of an evaluation, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// In the order of the evaluators.
    pub metrics: Vec<(String, f64)>,
}

impl Evaluation {
    /// Evaluates a model on every sample once. Masks are the same every time, whatever the batch size. What
    /// the processes have measured is put together, so that each has the metrics of all samples.
    pub fn run(
        predictor: Predictor<'_>,
        loader: &Loader,
        evaluators: &[Box<dyn Evaluator>],
        seed: u64,
        communicator: &dyn Communicator,
    ) -> Result<Self, EngineError> {
        let needs: Vec<_> = evaluators.iter().map(|evaluator| evaluator.needs()).collect();
        let needs_losses = needs.contains(&Needs::Losses);
        let tasks = needs.iter().filter_map(|needs| match needs {
            Needs::Predictions(task) => Some(*task),
            Needs::Losses => None,
        });
        let tasks: Vec<TaskKind> = tasks.collect();
        let mut meters: Vec<_> = evaluators.iter().map(|evaluator| evaluator.meter()).collect();
        let mut images = 0;
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            let ctx = Context::eval(random::stream(Purpose::Evaluate, &[seed])).with_first_image(images);
            images += batch.len() as u64;
            let mut asked = predictor.ask(&batch, &ctx);
            let losses = if needs_losses { values(asked.losses()?)? } else { Vec::new() };
            let predictions = asked.predictions(&tasks)?;
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
        let mut metrics = Vec::new();
        for (evaluator, meter) in evaluators.iter().zip(meters) {
            let mut whole = evaluator.meter();
            for state in communicator.all_gather(&meter.state())? {
                whole.merge(&state)?;
            }
            metrics.extend(whole.finish());
        }
        Ok(Self { metrics })
    }

    /// A metric by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }
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
