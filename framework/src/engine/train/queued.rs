//! A step that the device was given, and what it comes to.

use serde::{Deserialize, Serialize};

use crate::component::Loss;
use crate::distributed::Communicator;
use crate::engine::EngineError;
use crate::engine::together::gather;
use crate::nn::backend::Values;
use crate::nn::backend::step_end::{Figures, Readback, StepEnd};

/// What a step yields besides new parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Optimizer steps done with this one.
    pub step: u64,
    /// The weighted sum of the losses, averaged over the step's batches.
    pub loss: f64,
    /// The losses by name, averaged likewise.
    pub losses: Vec<(String, f64)>,
    /// The learning rate of the step.
    pub lr: f64,
    /// L2 norm of the gradient, before clipping.
    pub grad_norm: f64,
}

/// A step until its result is known.
pub struct Queued {
    /// The step, from 0.
    pub step: u64,
    /// Its learning rate.
    pub lr: f64,
    /// Its batches.
    pub batches: Vec<QueuedBatch>,
    /// Its losses, batch after batch, and its norm.
    pub readback: Readback,
}

/// A batch of a step.
pub struct QueuedBatch {
    /// What its images are called.
    pub ids: Vec<String>,
    /// Its part of the mean over the step's images.
    pub share: f64,
    /// Its losses, `[]` each.
    pub losses: Vec<Loss>,
}

impl QueuedBatch {
    /// The losses where the device has them.
    pub fn values(&self) -> impl Iterator<Item = &Values> {
        self.losses.iter().map(|loss| loss.value.values())
    }
}

/// The losses of a batch, each as its part of the mean over the step's batches.
#[derive(Serialize, Deserialize)]
struct Losses {
    total: f64,
    named: Vec<(String, f64)>,
}

impl Queued {
    /// What the step came to; waits for it. The losses are added up batch after batch, process after process.
    ///
    /// # Errors
    /// A loss, or the norm of the gradient, that is not finite; if the device or another process fails.
    pub fn result(
        self,
        end: &mut StepEnd,
        communicator: &dyn Communicator,
    ) -> Result<StepResult, EngineError> {
        let Self { step, lr, batches, readback } = self;
        let Figures { losses, grad_norm } = end.read(readback)?;
        let mut values = losses.into_iter().map(f64::from);
        let mut parts = |QueuedBatch { ids, share, losses }: &QueuedBatch| {
            let mut parts = Losses { total: 0.0, named: Vec::new() };
            for (Loss { name, weight, .. }, loss) in losses.iter().zip(&mut values) {
                check_finite(|| format!("the loss {name}"), loss, step, || ids.iter())?;
                parts.total += f64::from(*weight) * loss * share;
                parts.named.push((name.clone(), loss * share));
            }
            Ok(parts)
        };
        let own = batches.iter().map(&mut parts).collect::<Result<Vec<_>, EngineError>>();
        let ids = || batches.iter().flat_map(|batch| &batch.ids);
        let mut result = StepResult { step: step + 1, loss: 0.0, losses: Vec::new(), lr, grad_norm };
        for Losses { total, named } in gather(communicator, own)?.into_iter().flatten() {
            result.loss += total;
            for (name, loss) in named {
                match result.losses.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += loss,
                    None => result.losses.push((name, loss)),
                }
            }
        }
        check_finite(|| "the norm of the gradient".to_owned(), grad_norm, step, ids)?;
        Ok(result)
    }
}

fn check_finite<'a, I: Iterator<Item = &'a String>>(
    what: impl FnOnce() -> String,
    value: f64,
    step: u64,
    images: impl Fn() -> I,
) -> Result<(), EngineError> {
    const NAMED: usize = 8;
    if value.is_finite() {
        return Ok(());
    }
    let names = images().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let images = match images().count().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    };
    Err(EngineError::NotFinite { what: what(), value, step, images, checkpoint: 0 })
}
