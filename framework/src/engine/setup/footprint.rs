//! The memory that a training step needs, before it is taken.

use std::fmt;

use serde::Serialize;

use super::device::open_device;
use super::memory::{self, size};
use super::shares;
use crate::component::Loss;
use crate::engine::EngineError;
use crate::engine::train::EmaState;
use crate::experiment::Experiment;
use crate::graph::{Checked, Model, check, warn};
use crate::guard::guarded;
use crate::nn::backward::backward;
use crate::nn::cpu::buffer::{POOL_FACTOR, pool_peaks};
use crate::nn::{Context, Param, Scope, device, dry_run};
use crate::random::{self, Purpose};
use crate::recipe::{Problem, Recipe};

/// Batches that are tried: what is not of the model is in proportion to them. One image is too few for the statistics of a batch.
const TRIED: [usize; 2] = [2, 3];

/// Steps of a trial: the first one allocates the gradients, the others find them.
const STEPS: u64 = 2;

/// The memory of a training step, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Images of a batch.
    pub batch_size: usize,
    /// Parameters.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The state of the optimizer, and moving averages of the parameters.
    pub optimizer: u64,
    /// What the forward pass keeps for the backward, with what both work with, and the images.
    pub activations: u64,
    /// The program itself.
    pub program: u64,
    /// All of it.
    pub total: u64,
    /// What there is.
    pub available: Option<u64>,
}

impl Footprint {
    /// That of a recipe without mistakes, in one of so many processes, by dry runs of a few images on the recipe's device.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn of(recipe: &Recipe, processes: usize) -> Result<Self, String> {
        let Checked { experiment, .. } = check(recipe).map_err(|error| error.to_string())?;
        open_device(recipe, &experiment).map_err(|error| error.to_string())?;
        // What the card's memory holds of the program is not counted as free there; on the CPU trials leave something behind.
        let program = if device::memory().is_some() { 0 } else { memory::of_process().unwrap_or_default() };
        let before = dry_run::held().now;
        let trial = |images| Trial::new(recipe, images, before).map_err(|error| error.to_string());
        // What components make of values that nobody has computed is their own.
        let alone = |images| dry_run::dry_run(|| guarded(|| trial(images)).flatten());
        let [few, more] =
            TRIED.map(|images| alone(images).unwrap_or_else(|| Err("no thread could be started".into())));
        let (few, more) = (few?, more?);
        let Trial { batch_size, weights, gradients, optimizer, .. } = few;
        let at_batch_size = |of: fn(&Trial) -> f64| {
            let an_image = (of(&more) - of(&few)) / (TRIED[1] - TRIED[0]) as f64;
            of(&few) + (batch_size as f64 - TRIED[0] as f64) * an_image
        };
        // What the pool of buffers may keep free has a bound, which few images do not reach.
        let kept = at_batch_size(|trial| trial.pool_held);
        let bound = POOL_FACTOR * at_batch_size(|trial| trial.pool_in_use);
        let activations = at_batch_size(|trial| trial.activations) - (kept - bound).max(0.0);
        let activations = activations.max(0.0) as u64;
        let gradients = gradients * shares::gradients(&experiment.train, processes) as u64;
        let total = weights + gradients + optimizer + activations + program;
        let available = memory::limit().map(|(bytes, _)| bytes);
        Ok(Self { batch_size, weights, gradients, optimizer, activations, program, total, available })
    }

    /// What is to be said of a step that does not fit.
    pub fn warning(&self) -> Option<Problem> {
        let (available, who) = memory::limit().filter(|(bytes, _)| self.total > *bytes)?;
        let message = format!(
            "a training step needs {}, {who} {}: the system may end the program",
            size(self.total),
            size(available)
        );
        let help = "a smaller one with as much larger a `train.accumulate` trains the same; `train.checkpoint_activations: true` \
                    keeps less of a step";
        Some(Problem::new("data.train.batch_size", message).help(help))
    }
}

/// Warns of a training step that will not fit into memory, and tells what it needs. Batches as small as those that would be
/// tried are left to show it.
pub fn warn_of_memory(recipe: &Recipe, batch_size: usize, processes: usize) {
    if batch_size <= TRIED[1] {
        return;
    }
    match Footprint::of(recipe, processes) {
        Ok(footprint) => {
            tracing::info!("memory: {footprint}");
            warn(recipe, footprint.warning().into_iter().collect());
        }
        Err(reason) => tracing::debug!("the memory of a step is not known: {reason}"),
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch_size, weights, gradients, optimizer, activations, program, total, available } =
            *self;
        write!(f, "{} for batches of {batch_size}", size(total))?;
        if let Some(available) = available {
            write!(f, ", of {} here", size(available))?;
        }
        write!(
            f,
            ": weights {}, gradients {}, optimizer {}, activations {}, program {}",
            size(weights),
            size(gradients),
            size(optimizer),
            size(activations),
            size(program)
        )
    }
}

/// What a dry run of a few images has held, in bytes.
struct Trial {
    /// Images of a batch of the recipe.
    batch_size: usize,
    weights: u64,
    gradients: u64,
    optimizer: u64,
    activations: f64,
    /// What the pool of buffers has held at most, and what of that was in use at once.
    pool_held: f64,
    pool_in_use: f64,
}

impl Trial {
    /// Beside what was held `before`.
    fn new(recipe: &Recipe, images: usize, before: u64) -> Result<Self, EngineError> {
        let held = || dry_run::held().now.saturating_sub(before);
        let Checked { experiment, plan, image, .. } = check(recipe)?;
        let Experiment { seed, data, optimizer, train, .. } = experiment;
        let model =
            Model::build(&plan, image, &Scope::new(seed)).map_err(|problems| recipe.diagnose(problems))?;
        let params = model.params();
        let weights = held();
        let state =
            optimizer.build(&params).map_err(|problem| recipe.diagnose(vec![problem.within("optimizer")]))?;
        let ema = train.ema.map(|ema| EmaState::new(&params, ema.decay)).transpose()?;
        let optimizer = held() - weights;
        let trained = params.iter().filter(|param| param.requires_grad()).map(Param::numel).sum::<usize>();
        let gradients = (trained * size_of::<f32>()) as u64;
        let batch = model.example(images, seed);
        for step in 0..STEPS {
            dry_run::forget_peak();
            params.iter().for_each(Param::clear_grad);
            let own = batch.clone();
            let mut ctx = Context::train(random::stream(Purpose::Step, &[seed, step]));
            ctx.checkpoint_activations = train.checkpoint_activations;
            let outputs = model.forward(&own, &ctx)?;
            let losses = model.losses(&outputs, &own, &ctx)?;
            drop(outputs);
            if let Some(total) = Loss::total(losses)? {
                backward(total)?;
            }
        }
        let peak = dry_run::held().peak.saturating_sub(before) as f64;
        drop((state, ema));
        let activations = peak - (weights + gradients + optimizer) as f64;
        let [pool_in_use, pool_held] = pool_peaks().map(|values| (values * size_of::<f32>()) as f64);
        let batch_size = data.train.batch_size;
        Ok(Self { batch_size, weights, gradients, optimizer, activations, pool_held, pool_in_use })
    }
}
