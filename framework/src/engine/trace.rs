//! Running a graph on given tensors, to compare it with another implementation.

mod inputs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::component::{Loss, Span};
use crate::experiment::{Experiment, Train};
use crate::graph::{self, Checked, Model, catalog};
use crate::nn::backend::download;
use crate::nn::backward::backward;
use crate::nn::{Context, Scope};
use crate::random::{self, Purpose};
use crate::recipe::{Recipe, Sources};
use crate::weights::{HostTensor, TensorMap, write_safetensors};

use super::EngineError;
use super::setup::device::open_device;
use super::setup::{build_trainer, initialize, load_weights};
use super::train::TrainingPlan;
use inputs::Inputs;

/// What `trace` is asked for.
#[derive(Debug)]
pub struct TraceOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// The weights; the recipe's initial ones if none are given.
    pub weights: Option<PathBuf>,
    /// A safetensors file with `images` `[B, 3, H, W]` and, optionally, their classes, `labels` `[B]`, what
    /// is mixed into these, `mixed_labels` `[B]` with `mixed_share` `[B]`, the labels of their pixels,
    /// `label_maps` `[B, H, W]`, their objects, `boxes` `[N, 4]` (`x0 y0 x1 y1` in pixels) with `box_classes`
    /// `[N]`, the image that each is in, `box_images` `[N]`, and masks of 0 and 1, `box_masks` `[N, H, W]`,
    /// height and width of each image if it is padded, `sizes` `[B, 2]`, and whatever the pass draws at
    /// random (`noise` `[B, L]`).
    pub inputs: PathBuf,
    /// The file to write.
    pub out: PathBuf,
    /// Whether to run in training mode and write gradients.
    pub grads: bool,
    /// Optimizer steps to take on the inputs, as epochs of one batch; random inputs then have a leading axis
    /// of steps, images and labels stay the same.
    pub steps: Option<u64>,
}

/// Runs the graph and writes what every node yields (`<node>.<level>`, and what modules record), the losses
/// (`loss`, `loss.<node>.<name>`) and, if asked for, the gradients (`grad.<parameter>`). With steps: the
/// loss, learning rate and gradient norm of each (`step.loss`, `step.lr`, `step.grad_norm`), and the
/// parameters and optimizer state after the last.
pub fn trace(options: &TraceOptions) -> Result<(), EngineError> {
    let (recipe, checked) = graph::load(&options.sources, &catalog())?;
    open_device(&recipe, &checked.experiment)?;
    let inputs = Inputs::read(&options.inputs)?;
    let model = Model::build(&checked.plan, checked.image, &Scope::new(checked.experiment.seed))
        .map_err(|problems| recipe.diagnose(problems))?;
    match (&options.weights, &checked.experiment.init_from) {
        (Some(path), _) => {
            load_weights(&model.params(), path, None)?;
        }
        (None, Some(from)) => initialize(&recipe, &model, from)?,
        (None, None) => {}
    }
    let outputs = match options.steps {
        Some(steps) => train(&recipe, checked, model, &inputs, steps)?,
        None => pass(&model, &inputs, checked.experiment.seed, options.grads)?,
    };
    Ok(write_safetensors(&options.out, &outputs, &BTreeMap::new())?)
}

fn pass(model: &Model, inputs: &Inputs, seed: u64, grads: bool) -> Result<TensorMap, EngineError> {
    let rng = random::stream(Purpose::Step, &[seed, 0]);
    let ctx = if grads { Context::train(rng) } else { Context::eval(rng) };
    let ctx = ctx.with_given(inputs.values()).recording();
    let features = model.forward(&inputs.batch, &ctx)?;
    let mut outputs = TensorMap::new();
    let mut sum = 0.0;
    let losses = model.losses(&features, &inputs.batch, &ctx)?;
    for loss in &losses {
        let value = loss.value.to_vec()?[0];
        sum += loss.weight * value;
        insert(&mut outputs, format!("loss.{}", loss.name), vec![1], &[value]);
    }
    let total = Loss::total(losses)?;
    insert(&mut outputs, "loss".to_owned(), vec![1], &[sum]);
    drop(features);
    for name in ctx.unused() {
        tracing::warn!("`{name}` is given, but nothing in this model draws it");
    }
    for (name, (shape, values)) in ctx.into_records() {
        insert(&mut outputs, name, shape, &values);
    }
    if let (true, Some(total)) = (grads, total) {
        backward(total)?;
        for param in model.params().iter().filter(|param| param.requires_grad()) {
            if let Some(grad) = param.grad() {
                insert(
                    &mut outputs,
                    format!("grad.{}", param.name()),
                    param.shape().to_vec(),
                    &download(&grad)?,
                );
            }
        }
    }
    Ok(outputs)
}

fn train(
    recipe: &Recipe,
    checked: Checked,
    model: Model,
    inputs: &Inputs,
    steps: u64,
) -> Result<TensorMap, EngineError> {
    let Experiment { optimizer, schedule, train, seed, .. } = checked.experiment;
    // A run of that many epochs of one batch; a length in epochs or iterations is the same here.
    let length = |span: Span| match span {
        Span::Iterations(iterations) => Span::Epochs(iterations as f64),
        epochs @ Span::Epochs(_) => epochs,
    };
    let plan = TrainingPlan::new(1, inputs.batch.len(), 1, length(train.length))
        .ok_or_else(|| EngineError::Usage("there is nothing to train on".to_owned()))?;
    let plan = train.extended.iter().fold(plan, |plan, &more| plan.extended(length(more)));
    // Of the parameters themselves, not of their averages.
    let train = Train { ema: None, ..train };
    let mut trainer = build_trainer(recipe, model, optimizer.as_ref(), schedule, &train, plan, seed)?;
    for (name, (shape, _)) in &inputs.given {
        if shape.first() != Some(&(steps as usize)) {
            return Err(EngineError::Usage(format!(
                "`{name}` has the shape {shape:?}, its first axis is not {steps} steps"
            )));
        }
    }
    let (mut losses, mut rates, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps {
        let given = inputs.of_step(step, steps);
        let batches = std::iter::once(Ok(inputs.batch.clone()));
        let result = trainer.step_with(batches, |ctx| ctx.with_given(given.clone()))?;
        losses.push(result.loss as f32);
        rates.push(result.lr as f32);
        norms.push(result.grad_norm as f32);
    }
    let mut outputs = TensorMap::new();
    for (name, values) in [("step.loss", &losses), ("step.lr", &rates), ("step.grad_norm", &norms)] {
        insert(&mut outputs, name.to_owned(), vec![values.len()], values);
    }
    for (name, tensor) in trainer.tensors()? {
        outputs.insert(name, tensor);
    }
    Ok(outputs)
}

fn insert(outputs: &mut TensorMap, name: String, shape: Vec<usize>, values: &[f32]) {
    // Recorded values always fill their shape.
    if let Ok(tensor) = HostTensor::from_f32(shape, values) {
        outputs.insert(name, tensor);
    }
}
