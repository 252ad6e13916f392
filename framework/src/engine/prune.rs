//! Checkpoints of a run that are no longer wanted.

use std::path::{Path, PathBuf};

use super::EngineError;
use super::ranking::ranking;
use super::train::checkpoint::{CheckpointStore, Retention};
use crate::component::Span;
use crate::experiment::{Checkpointing, Evaluate};
use crate::graph::catalog;
use crate::recipe::{Sources, load};
use crate::report::{MetricLog, RunDir, Summary};

/// Which checkpoints are kept; what is left out is as the recipe of the run says.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneOptions {
    /// The newest ones.
    pub keep: Option<usize>,
    /// The best ones.
    pub keep_best: Option<usize>,
    /// One of every so much.
    pub keep_every: Option<Span>,
    /// Whether the newest ones of a finished run go, too: it can then not be trained longer.
    pub last: bool,
    /// Whether it is only told what would be removed.
    pub dry_run: bool,
}

/// What was removed of a run, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The files, newest first.
    pub removed: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
    /// How many checkpoints are left.
    pub left: usize,
}

/// Removes the checkpoints of a run that are not kept. The newest one of a run that is not finished always is.
///
/// # Errors
/// If the run is at work, its recipe or its figures cannot be read, or a file cannot be removed.
pub fn prune(root: &Path, options: &PruneOptions) -> Result<Pruned, EngineError> {
    let dir = match options.dry_run {
        true => {
            RunDir::check_unheld(root)?;
            RunDir::inspect(root)?
        }
        false => RunDir::open(root)?,
    };
    if !CheckpointStore::any_in(&dir.checkpoints()) {
        return Ok(Pruned::default());
    }
    let recipe = load(&Sources { recipe: dir.recipe(), ..Sources::default() }, &catalog())?;
    let rule: Checkpointing = recipe.deserialize("checkpoint")?;
    let evaluate: Evaluate = recipe.deserialize("evaluate")?;
    let every = options.keep_every.or(rule.keep_every);
    let newest = if options.last && dir.is_finished() { 0 } else { options.keep.unwrap_or(rule.keep).max(1) };
    let retention = Retention {
        newest,
        best: options.keep_best.unwrap_or(rule.keep_best),
        every: every.map(|every| steps(&dir, every)).transpose()?,
    };
    let metrics =
        if dir.metrics().is_file() { MetricLog::open(&dir.metrics())? } else { MetricLog::default() };
    let best = evaluate.evaluators.first().map(|evaluator| evaluator.best());
    let ranking = best.map(|(metric, more_is_better)| ranking(&metrics, metric, more_is_better));
    let mut store = CheckpointStore::open(dir.checkpoints())?.with_retention(retention);
    store.set_ranking(ranking.unwrap_or_default());
    let (surplus, left) = store.surplus()?;
    let mut pruned = Pruned { left, ..Pruned::default() };
    for path in surplus {
        pruned.bytes += path.metadata().map_or(0, |file| file.len());
        if !options.dry_run {
            store.remove(&path)?;
        }
        pruned.removed.push(path);
    }
    Ok(pruned)
}

/// A length in steps of a run.
fn steps(dir: &RunDir, length: Span) -> Result<u64, EngineError> {
    if let Span::Iterations(steps) = length {
        return Ok(steps);
    }
    let summary = Summary::read(&dir.summary())?;
    let figure =
        |name: &str| summary.get(name).and_then(serde_json::Value::as_f64).filter(|&value| value > 0.0);
    match figure("step").zip(figure("epoch")) {
        Some((step, epoch)) => Ok(length.steps((step / epoch).round() as u64)),
        None => Err(EngineError::Usage(format!(
            "{}: how many steps an epoch has is not known; write a length in iterations",
            dir.root().display()
        ))),
    }
}
