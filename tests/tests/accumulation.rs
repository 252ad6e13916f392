//! A training does not depend on how the images of a step are cut into batches, nor on how many processes
//! share them: up to rounding, for models without statistics of a batch.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use convmae_framework::component::Span;
use convmae_framework::data::Batch;
use convmae_framework::distributed::tree::sum_parts;
use convmae_framework::distributed::{CommunicationError, Communicator, Pending, Reduction, SingleProcess};
use convmae_framework::engine::EngineError;
use convmae_framework::engine::train::{StepResult, Trainer, TrainerParts, TrainingPlan};
use convmae_framework::graph::{Model, catalog, check};
use convmae_framework::nn::backend;
use convmae_framework::nn::{Images, Param, Scope};
use convmae_framework::recipe::{Sources, load};
use convmae_framework::report::{MetricLog, Split};

use crate::support::{Folder, data};

/// Threads as processes.
#[derive(Clone)]
struct Threads {
    rank: usize,
    given: Arc<Vec<Mutex<Vec<u8>>>>,
    barrier: Arc<Barrier>,
}

impl Threads {
    fn all(size: usize) -> Vec<Self> {
        let given = Arc::new((0..size).map(|_| Mutex::default()).collect::<Vec<_>>());
        let barrier = Arc::new(Barrier::new(size));
        let process = |rank| Self { rank, given: Arc::clone(&given), barrier: Arc::clone(&barrier) };
        (0..size).map(process).collect()
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.given.len()
    }

    fn sum(&self, values: Vec<f32>, _: Reduction) -> Box<dyn Pending> {
        Box::new(Asked { values, threads: self.clone() })
    }

    fn engine(&self) -> Option<String> {
        None
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let given = |rank: usize| self.given[rank].lock().unwrap_or_else(PoisonError::into_inner);
        *given(self.rank) = bytes.to_vec();
        self.barrier.wait();
        let all = (0..self.size()).map(|rank| given(rank).clone()).collect();
        // Nobody gives anything else before all have read.
        self.barrier.wait();
        Ok(all)
    }
}

/// A sum that is computed where it is waited for.
struct Asked {
    values: Vec<f32>,
    threads: Threads,
}

impl Pending for Asked {
    fn is_there(&mut self) -> bool {
        false
    }

    fn wait(self: Box<Self>) -> Result<Vec<f32>, CommunicationError> {
        let own: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.threads.all_gather(&own)?.concat();
        let parts = all.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let mut parts: Vec<f32> = parts.collect();
        sum_parts(&mut parts, self.values.len());
        parts.truncate(self.values.len());
        Ok(parts)
    }
}

const IMAGES: usize = 64;

/// What a step over the same 64 images leaves: its figures, and the gradients of all parameters.
#[derive(Clone)]
struct Step {
    result: StepResult,
    gradients: Vec<(String, Vec<f32>)>,
}

/// A step of a recipe over batches of this size, of which this process takes its share.
fn step(recipe: PathBuf, batch_size: usize, communicator: Rc<dyn Communicator>) -> Step {
    step_of(&Sources { recipe, ..Sources::default() }, batch_size, communicator, false, |_| None).unwrap()
}

/// A step of a recipe, with or without shared statistics (`sync`), in which reading this process's batches, from 0, may fail.
fn step_of(
    sources: &Sources,
    batch_size: usize,
    communicator: Rc<dyn Communicator>,
    sync: bool,
    fails: impl Fn(usize) -> Option<EngineError>,
) -> Result<Step, EngineError> {
    let checked = check(&load(sources, &catalog()).unwrap()).unwrap();
    let model = Model::build(&checked.plan, checked.image, &Scope::new(0)).unwrap();
    let params = model.params();
    let whole = model.example(IMAGES, 7);
    let mut trainer = Trainer::new(TrainerParts {
        optimizer: checked.experiment.optimizer.build(&params).unwrap(),
        base_lr: 1e-3,
        model,
        schedule: checked.experiment.schedule,
        plan: TrainingPlan::new(IMAGES / batch_size, batch_size, IMAGES / batch_size, Span::Epochs(1.0))
            .unwrap(),
        clip_grad_norm: None,
        ema: None,
        checkpoint_activations: false,
        seed: 3,
        communicator,
        reduction: Reduction::Tree,
        sync,
    })
    .unwrap();
    let own = (0..IMAGES / batch_size).filter(|&number| trainer.share().has(number)).enumerate();
    let batches: Vec<_> = own
        .map(|(at, number)| fails(at).map_or_else(|| Ok(part(&whole, number * batch_size, batch_size)), Err))
        .collect();
    let result = trainer.step_with(batches.into_iter(), |ctx| ctx)?;
    let gradient = |param: &Param| {
        let grad = param.grad()?;
        Some((param.name().to_owned(), backend::download(&grad).unwrap()))
    };
    Ok(Step { result, gradients: params.iter().filter_map(gradient).collect() })
}

/// `count` images of a batch, from `first` on.
fn part(batch: &Batch, first: usize, count: usize) -> Batch {
    let (_, channels, height, width) = batch.images.shape().dims4().unwrap();
    let of_image = channels * height * width;
    let images = first..first + count;
    Batch {
        images: Images::from_vec(
            batch.images.values()[first * of_image..][..count * of_image].to_vec(),
            (count, channels, height, width),
        ),
        targets: batch.targets[images.clone()].to_vec(),
        sizes: batch.sizes[images.clone()].to_vec(),
        originals: batch.originals[images.clone()].to_vec(),
        ids: batch.ids[images].to_vec(),
        ..batch.clone()
    }
}

/// That two steps differ by rounding at most.
#[track_caller]
fn assert_same(one: &Step, other: &Step) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * a.abs();
    assert!(near(one.result.loss, other.result.loss), "{:?} {:?}", one.result, other.result);
    assert!(near(one.result.grad_norm, other.result.grad_norm), "{:?} {:?}", one.result, other.result);
    assert_eq!(one.gradients.len(), other.gradients.len());
    for ((name, a), (_, b)) in one.gradients.iter().zip(&other.gradients) {
        let largest = a.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let difference = a.iter().zip(b).fold(0.0, |largest: f32, (a, b)| largest.max((a - b).abs()));
        assert!(difference <= 1e-4 * largest, "{name}: {difference} of {largest}");
    }
}

#[test]
fn four_batches_of_16_images_and_one_of_64_give_the_same_losses_and_gradients() {
    let folder = Folder::new();
    let tiny = std::fs::read_to_string(data("tiny.yaml")).unwrap();
    let without_mask = tiny
        .replace("  mask: { type: BlockwiseMasker, mask_ratio: 0.75 }\n", "")
        .replace("    from: mask\n", "");
    let decoder = "{ type: MaeDecoder, from: backbone, embed_dim: 16, depth: 1, num_heads: 4 }";
    let head = "{ type: ClassificationHead, from: backbone, num_classes: 5, label_smoothing: 0.1 }";
    let recipes = [
        tiny.clone(),
        tiny.replace("BlockwiseMasker", "RandomMasker"),
        without_mask.replace(decoder, head).replace("[{ type: ReconstructionLoss }]", "[]"),
    ];
    for recipe in recipes {
        std::fs::write(folder.path("recipe.yaml"), recipe).unwrap();
        let step = |batch_size| step(folder.path("recipe.yaml"), batch_size, Rc::new(SingleProcess));
        assert_same(&step(64), &step(16));
    }
}

#[test]
fn two_processes_give_the_losses_and_gradients_of_one() {
    let alone = step(data("tiny.yaml"), 16, Rc::new(SingleProcess));
    let threads = Threads::all(2)
        .into_iter()
        .map(|process| std::thread::spawn(move || step(data("tiny.yaml"), 16, Rc::new(process))));
    let together: Vec<Step> = threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
    for process in &together {
        assert_eq!(process.result, together[0].result, "every process has the same figures");
        assert!(process.gradients == together[0].gradients, "every process has the same gradients");
    }
    assert_eq!(together[0].result, alone.result, "losses come in order");
    assert!(together[0].gradients == alone.gradients, "gradients are added up in pairs");
}

/// A model whose every `BatchNorm` shares its statistics among processes.
fn with_sync() -> Sources {
    let sets =
        ["init_from=null", "model.backbone.s4=max_pool", "model.decode.sync=true", "model.aux.sync=true"];
    Sources {
        recipe: data("tiny_segmentation.yaml"),
        sets: sets.map(str::to_owned).into(),
        ..Sources::default()
    }
}

/// What every one of some threads makes of a step, by its rank.
fn in_threads<R: Send + 'static>(
    size: usize,
    step: impl Fn(Threads) -> R + Clone + Send + 'static,
) -> Vec<R> {
    let threads: Vec<_> = Threads::all(size)
        .into_iter()
        .map(|process| {
            let step = step.clone();
            std::thread::spawn(move || step(process))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn processes_that_share_statistics_give_the_losses_and_gradients_of_one_with_their_batches_in_one() {
    // 32 images at a time.
    let alone = step_of(&with_sync(), 32, Rc::new(SingleProcess), true, |_| None).unwrap();
    for processes in [2, 4] {
        let together = in_threads(processes, move |process| {
            step_of(&with_sync(), 32 / processes, Rc::new(process), true, |_| None).unwrap()
        });
        for process in &together {
            assert_eq!(process.result, together[0].result, "every process has the same figures");
            assert!(process.gradients == together[0].gradients, "every process has the same gradients");
        }
        assert_same(&alone, &together[0]);
    }
    let apart = step_of(&with_sync(), 16, Rc::new(SingleProcess), true, |_| None).unwrap();
    let differ = |at: usize| {
        let [a, b] = [&alone, &apart].map(|step| &step.gradients[at].1);
        let largest = a.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-2 * largest)
    };
    assert!((0..alone.gradients.len()).any(differ), "the statistics matter");
}

#[test]
fn a_process_that_fails_ends_a_step_whose_statistics_are_shared() {
    // Before, and between, batches of which the others wait for the statistics.
    for fails_at in 0..2 {
        let messages = in_threads(4, move |process| {
            let fails = process.rank == 2;
            let gone =
                |at| (fails && at == fails_at).then(|| EngineError::Usage("the disk is gone".to_owned()));
            step_of(&with_sync(), 8, Rc::new(process), true, gone).err().unwrap().to_string()
        });
        for (rank, message) in messages.iter().enumerate() {
            assert_eq!(message.starts_with("process 2: "), rank != 2, "{message}");
            assert!(message.contains("the disk is gone"), "{message}");
        }
    }
}

#[test]
fn a_run_has_the_same_curves_whatever_its_micro_batches() {
    let curves = |batch_size: usize, accumulate: usize| {
        let folder = Folder::new();
        let sets = [
            format!("data.train.batch_size={batch_size}"),
            format!("train.accumulate={accumulate}"),
            format!("data.val.batch_size={batch_size}"),
        ];
        folder.succeeds(
            ["run", "tiny.yaml", "--out", "run"]
                .into_iter()
                .chain(sets.iter().flat_map(|set| ["--set", set.as_str()])),
        );
        let log = MetricLog::open(&folder.path("run/metrics.parquet")).unwrap();
        let series = |(split, name)| log.series(split, name).into_iter().map(|point| point.value);
        [(Split::Train, "loss"), (Split::Train, "grad_norm"), (Split::Train, "lr"), (Split::Val, "loss")]
            .into_iter()
            .flat_map(series)
            .collect::<Vec<f64>>()
    };
    let (whole, parts) = (curves(8, 1), curves(2, 4));
    assert_eq!(whole.len(), 3 * 12 + 2);
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() <= 1e-4 * a.abs(), "{whole:?} {parts:?}");
    }
}
