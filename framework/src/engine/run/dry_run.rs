//! The beginning of a run, tried out without its directory.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::directory;
use super::early_stop::EarlyStopper;
use crate::component::Needs;
use crate::distributed::SingleProcess;
use crate::engine::EngineError;
use crate::engine::evaluate::{Evaluation, Predictor};
use crate::engine::setup::{Look, Prepared, prepare, with_all_mistakes};
use crate::engine::train::StepResult;
use crate::graph::check;
use crate::recipe::Recipe;
use crate::report::RunDir;

/// What the beginning of a run came to.
#[derive(Debug)]
pub struct DryRun {
    /// The directory that the run would have.
    pub root: PathBuf,
    /// What its first step came to.
    pub step: StepResult,
    /// Images of this step.
    pub images: usize,
    /// Seconds that it took, from the first image read.
    pub seconds: f64,
    /// Steps of the whole run.
    pub steps: u64,
    /// What was measured, if the recipe evaluates.
    pub evaluated: Option<FirstBatch>,
}

/// The first batch of the validation set.
#[derive(Debug)]
pub struct FirstBatch {
    /// Its images.
    pub images: usize,
    /// Metrics by name.
    pub metrics: Vec<(String, f64)>,
    /// Evaluators left out: features of their support sets would take a pass over these.
    pub left_out: Vec<&'static str>,
}

/// Takes the first optimizer step of a recipe's run, and evaluates the first batch of its validation set. Writes nothing.
///
/// # Errors
/// Those of the run: all mistakes of the recipe, its data and its weights, what is wrong with the first images, a loss
/// that is not finite.
pub fn dry_run(recipe: &Recipe, out: Option<PathBuf>) -> Result<DryRun, EngineError> {
    let look = Look { samples: false, weights: true };
    let checked = check(recipe).map_err(|mistakes| with_all_mistakes(recipe, mistakes.into(), look))?;
    let mut prepared = prepare(recipe, checked, Rc::new(SingleProcess))
        .and_then(|prepared| prepared.initialize(recipe).map(|()| prepared))
        .map_err(|error| with_all_mistakes(recipe, error, look))?;
    let started = Instant::now();
    let batches = prepared.train.epoch(0, 0).map(|batch| batch.map_err(EngineError::from));
    let step = prepared.trainer.step_with(batches, |ctx| ctx)?;
    let seconds = started.elapsed().as_secs_f64();
    let evaluated = evaluate(&mut prepared)?;
    let plan = prepared.trainer.plan();
    Ok(DryRun {
        root: directory(out, &prepared.settings.name),
        step,
        images: plan.images_of(0),
        seconds,
        steps: plan.steps,
        evaluated,
    })
}

fn evaluate(prepared: &mut Prepared) -> Result<Option<FirstBatch>, EngineError> {
    let Prepared { trainer, val, measures, inference, settings, .. } = prepared;
    let Some(val) = val.as_ref().filter(|_| !measures.is_empty()) else { return Ok(None) };
    let of_features = measures.extract_if(.., |measure| measure.evaluator.needs() == Needs::Features);
    let left_out: Vec<_> = of_features.map(|measure| measure.evaluator.best().0).collect();
    let evaluation = trainer.with_evaluated(|model| {
        let predictor = Predictor { model, inference: inference.as_deref() };
        Evaluation::try_out(predictor, val, measures, settings.seed)
    })?;
    let evaluators = measures.iter().map(|measure| measure.evaluator.as_ref());
    let stop = settings.train.stop.as_ref().filter(|_| left_out.is_empty());
    if let Some(mut early) = stop.and_then(|rule| EarlyStopper::new(rule, evaluators)) {
        early.take(1, &evaluation)?;
    }
    let images = val.pipeline().samples.len().min(val.batch_size());
    Ok(Some(FirstBatch { images, metrics: evaluation.metrics, left_out }))
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, step, images, seconds, steps, evaluated } = self;
        write!(
            f,
            "dry run: step 1 of {steps} with {images} images in {seconds:.2} s: loss {:.4}, gradient norm {:.4}, learning rate {:.2e}",
            step.loss, step.grad_norm, step.lr
        )?;
        if let Some(FirstBatch { images, metrics, left_out }) = evaluated {
            write!(f, "\nevaluated then on the first {images} images of the validation set:")?;
            for (name, value) in metrics {
                write!(f, " {name} {value:.4}")?;
            }
            for name in left_out {
                write!(f, " {name} left out, it needs the features of a whole set")?;
            }
        }
        let root = root.display();
        match RunDir::is_run(&self.root) {
            false => write!(f, "\nnothing was written; the run would be {root}"),
            true => write!(
                f,
                "\nnothing was written; {root} is a run already: `--resume` continues it, `--out` names another place"
            ),
        }
    }
}
