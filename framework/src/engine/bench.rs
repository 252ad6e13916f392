//! How fast a recipe trains on this machine, and where the time goes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::component::{Span, TaskKind};
use crate::data::Batch;
use crate::distributed::{CommunicationError, Communicator, Reduction};
use crate::experiment::{Data, Experiment};
use crate::graph::{self, Checked, Model, catalog};
use crate::loader::{Loader, LoaderOptions, Pipeline};
use crate::nn::backend::step_end::IS_LATE;
use crate::nn::profile::{self, Cost, Place, Profile};
use crate::nn::{Context, Images, Param, Scope, ceiling, device};
use crate::random::{self, Purpose};
use crate::recipe::Sources;

use super::EngineError;
use super::setup::device::open_device;
use super::setup::{Loading, build_trainer, warn_of_memory};
use super::timing::{self, Timing};
use super::together::together;
use super::train::{Exchange, Trainer, TrainingPlan};

/// How long batches are loaded to see how fast that goes.
const DATA_TIME: Duration = Duration::from_secs(5);

/// What `bench` is asked for.
#[derive(Debug)]
pub struct BenchOptions {
    /// The recipe and what overrides it.
    pub sources: Sources,
    /// Steps that are timed.
    pub steps: usize,
    /// Steps before these.
    pub warmup: usize,
    /// Whether a step is the forward of an evaluation, and nothing else.
    pub forward: bool,
}

/// What a recipe costs on this machine.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    /// Name of the experiment.
    pub name: String,
    /// Images of a step, of this process.
    pub batch_size: usize,
    /// What it was computed on: `cpu`, `cuda:0 (NVIDIA H200)`.
    pub device: String,
    /// Threads of the kernels.
    pub threads: usize,
    /// Wall-clock seconds of a training step, or of a forward, on images in memory.
    pub seconds_per_step: Timings,
    /// Images of a step, of all processes, over its median time.
    pub images_per_s: f64,
    /// Billions of floating-point operations per second: twice the multiply-adds of the forward, of a training step three times
    /// that (the backward has a product for each input and one for each weight).
    pub gflops: f64,
    /// Billions of floating-point operations per second of a large matrix product on the same device,
    /// measured after the steps.
    pub matmul_ceiling_gflops: f64,
    /// `gflops` over `matmul_ceiling_gflops`.
    pub share_of_ceiling: f64,
    /// The largest resident memory of this process so far, where the system tells; on CUDA, what it held of
    /// the card.
    pub peak_memory_bytes: Option<u64>,
    /// Seconds of a step by phase.
    pub phases: Vec<Item>,
    /// Seconds of a step by node of the graph.
    pub nodes: Vec<Item>,
    /// Seconds of a step by kernel.
    pub kernels: Vec<Item>,
    /// How fast the training images are loaded by themselves.
    pub data: DataSpeed,
    /// What several processes tell each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Exchanged>,
}

/// What several processes tell each other in a step.
#[derive(Debug, Serialize)]
pub struct Exchanged {
    /// How many there are.
    pub processes: usize,
    /// Bytes of the gradient that they add up.
    pub gradient_bytes: usize,
    /// Seconds of a step in which this process waits until all have their gradients.
    pub wait_seconds: f64,
    /// Seconds of a step in which this process does nothing but add up gradients: the part that the backward does not hide.
    pub exchange_seconds: f64,
    /// Seconds in which they are added up with nothing to compute meanwhile: half of the times took less.
    pub alone_seconds: f64,
    /// Seconds in which the library that connects the processes does (`train.reduction: fast`), likewise: half of the times took less.
    pub allreduce_seconds: f64,
}

/// Times of the steps in seconds.
#[derive(Debug, Serialize)]
pub struct Timings {
    /// Half of the steps took less.
    pub median: f64,
    /// Their sum over their number.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// In order.
    pub all: Vec<f64>,
}

/// What one phase, node or kernel costs in a step.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its name; empty for the rest.
    pub name: String,
    /// Seconds in the forward pass.
    pub forward: f64,
    /// Seconds in the backward pass.
    pub backward: f64,
    /// Seconds in either and elsewhere.
    pub total: f64,
    /// Share of the step.
    pub share: f64,
    /// How often it runs.
    pub calls: f64,
    /// Billions of floating-point operations per second, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflops: Option<f64>,
}

/// How fast the training images are loaded by themselves.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataSpeed {
    /// Images per second with the recipe's number of workers.
    ImagesPerS(f64),
    /// Why they were not loaded.
    NotMeasured(String),
}

/// What is timed.
enum Timed {
    Training(Box<Trainer>),
    Forward(Model),
}

/// Times training steps on random images, or forwards, and the loading of the recipe's own. Every process takes a batch of a step.
pub fn bench(options: &BenchOptions, communicator: Rc<dyn Communicator>) -> Result<BenchReport, EngineError> {
    let loaded = graph::load(&options.sources, &catalog()).map_err(EngineError::from);
    let loaded = loaded.and_then(|(recipe, checked)| {
        open_device(&recipe, &checked.experiment)?;
        Ok((recipe, checked))
    });
    let (recipe, Checked { experiment, plan, image, .. }) = together(communicator.as_ref(), loaded)?;
    let processes = communicator.size();
    let Experiment { name, seed, data, optimizer, schedule, train, .. } = experiment;
    let batch_size = data.train.batch_size;
    warn_of_memory(&recipe, batch_size, processes);
    let data = load_data(data, image.channels, seed);

    let model =
        Model::build(&plan, image, &Scope::new(seed)).map_err(|problems| recipe.diagnose(problems))?;
    let passes = if options.forward { 1.0 } else { 3.0 };
    let flops = 2.0 * passes * model.macs().computed as f64 * batch_size as f64;
    let epochs = Span::Epochs((options.warmup + 2 * options.steps) as f64);
    let training = TrainingPlan::new(processes, batch_size, processes, epochs)
        .ok_or_else(|| EngineError::Usage("there is nothing to train on".to_owned()))?;
    let batch = model.example(batch_size, seed);
    let mut timed = if options.forward {
        Timed::Forward(model)
    } else {
        let trainer = build_trainer(&recipe, model, optimizer.as_ref(), schedule, &train, training, seed)?;
        Timed::Training(Box::new(trainer.among(communicator)))
    };
    timed.time(&batch, options.warmup)?;
    // Spans wait for a card, which is late else: steps are timed before they are profiled.
    let before = if IS_LATE { Some(timed.time(&batch, options.steps)?) } else { None };
    profile::start();
    let profiled = timed.time(&batch, options.steps)?;
    let profile = profile::finish();
    let all = before.unwrap_or(profiled);
    // Before the matrices of the ceiling are held, too.
    let peak_memory_bytes = device::peak_memory();
    let matmul_ceiling_gflops = ceiling::matmul_gflops()?;
    let seconds_per_step = timings(all);
    let phases = items(&profile, options.steps, |place| place.phase);
    let exchanged = match &timed {
        Timed::Training(trainer) if processes > 1 => Some(Exchanged::of(trainer, &phases, options.steps)?),
        _ => None,
    };
    let gflops = flops / seconds_per_step.median / 1e9;
    let report = BenchReport {
        name,
        batch_size,
        device: device::describe()?,
        threads: rayon::current_num_threads(),
        images_per_s: (processes * batch_size) as f64 / seconds_per_step.median,
        gflops,
        matmul_ceiling_gflops,
        share_of_ceiling: gflops / matmul_ceiling_gflops,
        peak_memory_bytes,
        phases,
        nodes: items(&profile, options.steps, |place| &place.node),
        kernels: items(&profile, options.steps, |place| place.kernel),
        seconds_per_step,
        data,
        processes: exchanged,
    };
    if processes == 1 && !options.forward {
        timing::remember(&recipe, &Timing::of(&report));
    }
    Ok(report)
}

impl Exchanged {
    /// What it was in the phases of a step; the library adds up as much so many times.
    fn of(trainer: &Trainer, phases: &[Item], times: usize) -> Result<Self, EngineError> {
        let communicator = trainer.communicator();
        let seconds = |name| phases.iter().find(|phase| phase.name == name).map_or(0.0, |phase| phase.total);
        let params = trainer.model.params();
        let trained = params.iter().filter(|param| param.requires_grad());
        let values: usize = trained.map(Param::numel).sum();
        let median = |work: &dyn Fn() -> Result<(), CommunicationError>| {
            let mut all = Vec::with_capacity(times);
            for _ in 0..times {
                // All begin at once.
                communicator.all_gather(&[])?;
                let start = Instant::now();
                work()?;
                all.push(start.elapsed().as_secs_f64());
            }
            Ok::<_, CommunicationError>(timings(all).median)
        };
        let alone = |reduction| {
            let exchange = Exchange::new(&params, trainer.communicator(), reduction);
            let present = exchange.close()?;
            exchange.finish(&[present])
        };
        Ok(Self {
            processes: communicator.size(),
            gradient_bytes: values * size_of::<f32>(),
            wait_seconds: seconds("wait"),
            exchange_seconds: seconds("exchange"),
            alone_seconds: median(&|| alone(trainer.reduction()))?,
            allreduce_seconds: median(&|| alone(Reduction::Fast))?,
        })
    }
}

impl Timed {
    /// Seconds of so many steps; of a late device the last one waits for what the others have left.
    fn time(&mut self, batch: &Batch, steps: usize) -> Result<Vec<f64>, EngineError> {
        let mut all = Vec::with_capacity(steps);
        for step in 1..=steps {
            let start = Instant::now();
            // As of a loader: not on the device yet.
            let images = Images::new(batch.images.pixels().clone(), batch.images.shape());
            let batch = Batch { images, ..batch.clone() };
            let is_last = step == steps;
            match self {
                Self::Training(trainer) => {
                    trainer.step(std::iter::once(Ok(batch)))?;
                    if is_last {
                        trainer.wait()?;
                    }
                }
                Self::Forward(model) => {
                    let _span = profile::phase("forward");
                    evaluate(model, &batch)?;
                }
            }
            if is_last {
                device::synchronize()?;
            }
            all.push(start.elapsed().as_secs_f64());
        }
        Ok(all)
    }
}

/// Computes what an evaluation does of a batch: predictions, or the losses of a model that predicts nothing.
fn evaluate(model: &Model, batch: &Batch) -> Result<(), EngineError> {
    let ctx = Context::eval(random::stream(Purpose::Evaluate, &[0]));
    let outputs = model.forward(batch, &ctx)?;
    let tasks = [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect];
    if model.predictions(&outputs, &tasks, batch, &ctx)?.is_empty() {
        model.losses(&outputs, batch, &ctx)?;
    }
    Ok(())
}

fn load_data(data: Data, channels: usize, seed: u64) -> DataSpeed {
    let options = Loading::of(&data).options(LoaderOptions::train(data.train.batch_size));
    let train = data.train;
    let loader = train.dataset.open().and_then(|samples| {
        Loader::new(
            Arc::new(Pipeline {
                samples,
                transforms: train.transforms,
                batch_transforms: train.batch_transforms,
                pad_to: train.pad_to,
                channels,
                seed,
            }),
            options,
        )
    });
    let loader = match loader {
        Ok(loader) => loader,
        Err(error) => return DataSpeed::NotMeasured(error.to_string()),
    };
    let (start, mut images) = (Instant::now(), 0);
    for batch in (0..).flat_map(|epoch| loader.epoch(epoch, 0)) {
        match batch {
            Ok(batch) => images += batch.len(),
            Err(error) => return DataSpeed::NotMeasured(error.to_string()),
        }
        if start.elapsed() > DATA_TIME {
            break;
        }
    }
    DataSpeed::ImagesPerS(images as f64 / start.elapsed().as_secs_f64())
}

fn timings(all: Vec<f64>) -> Timings {
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    Timings {
        median: f64::midpoint(middle((sorted.len().max(1) - 1) / 2), middle(sorted.len() / 2)),
        mean: all.iter().sum::<f64>() / all.len() as f64,
        min: middle(0),
        all,
    }
}

/// Costs per step by a part of their place, the largest first.
fn items<'a>(profile: &'a Profile, steps: usize, by: impl Fn(&'a Place) -> &'a str) -> Vec<Item> {
    let mut groups: BTreeMap<&str, Vec<(&Place, &Cost)>> = BTreeMap::new();
    for (place, cost) in &profile.costs {
        groups.entry(by(place)).or_default().push((place, cost));
    }
    let whole: Duration = profile.costs.values().map(|cost| cost.time).sum();
    let item = |(name, costs): (&str, Vec<(&Place, &Cost)>)| {
        let seconds = |phase: Option<&str>| {
            let costs = costs.iter().filter(|(place, _)| phase.is_none_or(|phase| place.phase == phase));
            costs.map(|(_, cost)| cost.time).sum::<Duration>().as_secs_f64()
        };
        let total = seconds(None);
        let flops: u64 = costs.iter().map(|(_, cost)| cost.flops).sum();
        Item {
            name: name.to_owned(),
            forward: seconds(Some("forward")) / steps as f64,
            backward: seconds(Some("backward")) / steps as f64,
            total: total / steps as f64,
            share: total / whole.as_secs_f64(),
            calls: costs.iter().map(|(_, cost)| cost.calls).sum::<u64>() as f64 / steps as f64,
            gflops: (flops > 0).then(|| flops as f64 / total / 1e9),
        }
    };
    let mut items: Vec<_> = groups.into_iter().map(item).collect();
    items.sort_by(|a, b| b.total.total_cmp(&a.total));
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_between_the_middle_ones() {
        assert_eq!(timings(vec![4.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(timings(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn costs_are_grouped_by_any_part_of_their_place() {
        let mut profile = Profile::default();
        for (phase, kernel, millis) in
            [("forward", "gelu", 10), ("backward", "gelu", 20), ("backward", "", 10)]
        {
            let cost = Cost { time: Duration::from_millis(millis), calls: 2, flops: 0 };
            profile.costs.insert(Place { phase, node: "n".into(), kernel }, cost);
        }
        let kernels = items(&profile, 2, |place| place.kernel);
        assert_eq!(
            (kernels[0].name.as_str(), kernels[0].forward, kernels[0].backward),
            ("gelu", 0.005, 0.01)
        );
        assert_eq!((kernels[0].share, kernels[0].calls), (0.75, 2.0));
        assert_eq!(items(&profile, 2, |place| &place.node).len(), 1);
    }
}
