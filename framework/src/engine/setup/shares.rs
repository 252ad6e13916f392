//! What every one of several processes does of a training.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::memory::size;
use crate::distributed::{Reduction, tree};
use crate::experiment::Train;
use crate::nn::DeviceName;
use crate::recipe::{Diagnostics, Problem, Recipe};

/// The shares of processes in a training: the number of processes changes none of what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// How many processes there are.
    pub processes: usize,
    /// Batches of a step that each takes.
    pub batches: usize,
    /// Images of such a batch.
    pub batch_size: usize,
    /// Bytes that each sends in a step, and receives.
    pub bytes_per_step: u64,
    /// Gradients that each holds at once.
    pub gradients: usize,
    /// In which order gradients are added up.
    pub reduction: Reduction,
    /// Images that BatchNorm normalises together, where processes share its statistics (`sync`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalized_together: Option<usize>,
}

impl Shares {
    /// Those of so many processes in a training of so many parameters.
    ///
    /// # Errors
    /// What they cannot do together.
    pub fn of(
        recipe: &Recipe,
        train: &Train,
        batch_size: usize,
        parameters: usize,
        processes: usize,
    ) -> Result<Self, Diagnostics> {
        check(recipe, train, processes)?;
        let batches = train.accumulate / processes;
        let bytes = (parameters * size_of::<f32>()) as u64;
        Ok(Self {
            processes,
            batches,
            batch_size,
            // A part of the gradient to each other process, and the sum of the own part to all of them.
            bytes_per_step: 2 * bytes * (processes as u64 - 1) / processes as u64,
            gradients: gradients(train, processes),
            reduction: reduction(train),
            normalized_together: sync(recipe).then_some(processes * batch_size),
        })
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            batches,
            batch_size,
            bytes_per_step,
            gradients,
            reduction,
            normalized_together,
        } = *self;
        write!(
            f,
            "{processes}, each of {batches} of a step's batches of {batch_size}; each sends {}",
            size(bytes_per_step)
        )?;
        write!(f, " a step and holds {gradients} gradients; ")?;
        if let Some(images) = normalized_together {
            return write!(
                f,
                "BatchNorm with `sync` is over the {images} images that they compute at a time: the results of one process with \
                 batches of {images} up to rounding"
            );
        }
        match reduction {
            Reduction::Tree if batches.is_power_of_two() => {
                f.write_str("the same bits as one process has on such a machine")
            }
            Reduction::Tree => f.write_str(
                "the same bits in every run of as many processes, and those of one up to rounding",
            ),
            Reduction::Fast => f.write_str("the results of one process up to rounding"),
        }
    }
}

/// The order in which a training adds up gradients. On the CPU a gradient more is little beside the same bits; a card's memory is
/// dear, and the library that connects cards has an order of its own.
pub fn reduction(train: &Train) -> Reduction {
    let default = if DeviceName::default() == DeviceName::Cpu { Reduction::Tree } else { Reduction::Fast };
    train.reduction.unwrap_or(default)
}

/// Gradients that each of so many processes holds at once at most.
pub fn gradients(train: &Train, processes: usize) -> usize {
    match reduction(train) {
        Reduction::Tree => tree::kept(train.accumulate / processes.max(1)),
        Reduction::Fast => 1,
    }
}

/// Whether a node of the model shares the statistics of batches among processes.
pub fn sync(recipe: &Recipe) -> bool {
    let nodes = recipe.get("model").and_then(Value::as_object);
    nodes.is_some_and(|nodes| nodes.values().any(|node| node.get("sync") == Some(&Value::Bool(true))))
}

/// Refuses a step whose batches so many processes cannot share evenly.
///
/// # Errors
/// At its place in the recipe.
pub fn check(recipe: &Recipe, train: &Train, processes: usize) -> Result<(), Diagnostics> {
    uneven(train.accumulate, processes).map_or(Ok(()), |problem| Err(recipe.diagnose(vec![problem])))
}

fn uneven(batches: usize, processes: usize) -> Option<Problem> {
    if batches.is_multiple_of(processes) {
        return None;
    }
    let message = format!("a step has {batches} batches, which {processes} processes cannot share evenly");
    let below = batches / processes * processes;
    let fitting = [below, below + processes].into_iter().filter(|&batches| batches > 0);
    let fitting: Vec<_> = fitting.map(|batches| batches.to_string()).collect();
    let help = format!(
        "{}, with as much larger or smaller a `data.train.batch_size`: the number of processes does not change what is trained",
        fitting.join(" or ")
    );
    Some(Problem::new("train.accumulate", message).help(help))
}
