//! The recipe, typed: what an experiment consists of.

mod early_stop;
mod frozen;
mod init_from;
mod nodes;
mod parts;
mod results;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::component::{
    BatchTransform, Dataset, Evaluator, Inference, Optimizer, Schedule, Span, Transform, optional_slot,
};
use crate::data::Size;
use crate::distributed::Reduction;
use crate::nn::{DeviceName, Precision};

pub use early_stop::{Better, EarlyStop};
pub use frozen::Frozen;
pub use init_from::{InitFrom, InitSource, Names};
pub use nodes::{FlawedNode, HeadWiring, Node, NodeKind, Nodes, Source};
pub use parts::{Parts, SplitParts};
pub use results::{changes_of_results, changes_results, is_seed};

/// An experiment: data, a model as a graph of components, and how to train and evaluate it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the experiment; its run directory is `runs/<name>` unless `--out` says otherwise.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), extend("examples" = ["convmae_base"]))]
    pub name: String,
    /// What it is for, and where its values come from.
    #[serde(default)]
    pub description: String,
    /// Seed of everything random: initial values, sample order, augmentation, masks.
    #[serde(default)]
    #[schemars(extend("x-called-elsewhere" = ["seed_everything", "random_seed"]))]
    pub seed: u64,
    /// What to compute on: `cpu`, or with a program built with the feature `cuda` a GPU, `cuda:1` (`cuda` is
    /// the first one); `auto`, as if left out, is what the program was built for, and in a sweep the card with the
    /// fewest runs.
    #[serde(default, deserialize_with = "device")]
    #[schemars(with = "Option<DeviceSchema>")]
    pub device: Option<DeviceName>,
    /// How products of matrices are computed, and with bf16 on a GPU what goes from one to the next is stored;
    /// `tf32` on a GPU and `f32` on the CPU if left out. The CPU has no `tf32`.
    #[serde(default)]
    #[schemars(with = "Option<PrecisionSchema>")]
    #[schemars(extend("x-called-elsewhere" = ["amp", "fp16", "bf16", "mixed_precision"]))]
    pub precision: Option<Precision>,
    /// Height and width of the images that the model sees: `224`, or `[height, width]`.
    #[schemars(extend("x-called-elsewhere" = ["img_size", "input_size", "resolution"]))]
    pub image_size: ImageSize,
    /// Channels of the images that the model sees: 3 for RGB, 1 for grey, 4 with near infrared, 12 of a
    /// satellite. Images of the data have as many, or are RGB where one is wanted, or grey or RGB with alpha
    /// where three are.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1024))]
    #[schemars(extend("x-called-elsewhere" = ["in_chans", "in_channels", "num_channels"]))]
    pub image_channels: usize,
    /// Where samples come from.
    pub data: Data,
    /// The model: named nodes (maskers, backbones, necks, heads), each with `type`, and `from` naming its
    /// source.
    pub model: Nodes,
    /// Weights to start from: a file, the run of another recipe, or
    /// `{ weights: FILE, leave: [decoder_*], new: [] }`. Parameters of heads that are not there are
    /// initialised; whatever else does not fit is an error, unless it is named.
    #[serde(default)]
    #[schemars(extend("x-called-elsewhere" = ["pretrained", "load_from", "finetune", "init_checkpoint"]))]
    pub init_from: Option<InitFrom>,
    /// Gradients to new parameters.
    pub optimizer: Box<dyn Optimizer>,
    /// The learning rate over time.
    #[schemars(extend("x-called-elsewhere" = ["lr_scheduler", "scheduler", "lr_schedule", "param_scheduler"]))]
    pub schedule: Box<dyn Schedule>,
    /// How long to train, and how.
    pub train: Train,
    /// What is measured on the validation set, and when.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// When the state is saved.
    #[serde(default)]
    pub checkpoint: Checkpointing,
    /// What is logged besides the files of every run.
    #[serde(default)]
    pub logging: Logging,
}

fn three() -> usize {
    3
}

/// `auto` leaves the choice.
fn device<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DeviceName>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?.filter(|name| name != "auto");
    name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
}

/// How a [`DeviceName`], a type of a crate that knows no recipes, is written in one.
struct DeviceSchema;

impl JsonSchema for DeviceSchema {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(auto|cpu|cuda(:[0-9]{1,4})?)$",
            "examples": ["auto", "cpu", "cuda", "cuda:1"],
        })
    }
}

/// How products of matrices are computed.
#[derive(JsonSchema)]
#[schemars(rename = "Precision", inline, rename_all = "lowercase")]
#[allow(dead_code)] // Only its schema is used.
enum PrecisionSchema {
    /// Single precision.
    F32,
    /// Factors with 10 bits behind the point.
    Tf32,
    /// Factors with 7 bits behind the point, as under PyTorch's `autocast`.
    Bf16,
}

/// Height and width in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrTwo")]
pub struct ImageSize {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrTwo {
    One(usize),
    Two([usize; 2]),
}

impl From<OneOrTwo> for ImageSize {
    fn from(size: OneOrTwo) -> Self {
        match size {
            OneOrTwo::One(side) => Self { height: side, width: side },
            OneOrTwo::Two([height, width]) => Self { height, width },
        }
    }
}

impl JsonSchema for ImageSize {
    fn schema_name() -> Cow<'static, str> {
        "ImageSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65536 },
                {
                    "type": "array",
                    "items": { "type": "integer", "minimum": 1, "maximum": 65536 },
                    "minItems": 2,
                    "maxItems": 2,
                },
            ]
        })
    }
}

/// The training set and the validation set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// What is trained on.
    pub train: Split,
    /// What is evaluated on; nothing is evaluated without it.
    #[serde(default)]
    pub val: Option<Split>,
    /// Threads that read and transform samples; one per core if left out.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    #[schemars(extend("x-called-elsewhere" = ["num_workers", "workers_per_gpu"]))]
    pub workers: Option<usize>,
    /// Batches that are prepared ahead.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: usize,
    /// Fraction of the dataset's samples that may be unreadable, and one in any case unless 0: they are
    /// replaced, reported and counted. Above it the run fails.
    #[serde(default = "max_corrupt")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_corrupt: f64,
}

fn two() -> usize {
    2
}

fn max_corrupt() -> f64 {
    0.01
}

/// A dataset and what happens to its samples.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Where samples come from.
    pub dataset: Box<dyn Dataset>,
    /// What happens to every sample, in order.
    #[serde(default)]
    pub transforms: Vec<Box<dyn Transform>>,
    /// What happens to every batch, in order.
    #[serde(default)]
    pub batch_transforms: Vec<Box<dyn BatchTransform>>,
    /// Pads the images of a batch, which then may differ in size, to this one: to the right and to the
    /// bottom, by the mean colour. Unlike with the transform `Pad` their own sizes stay known: predictions
    /// have no padding.
    #[serde(default)]
    pub pad_to: Option<Size>,
    /// Images per batch (and, with `train.accumulate`, micro-batch).
    #[schemars(range(min = 1))]
    pub batch_size: usize,
}

/// How long to train, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// How long: `1600 epochs`, `160000 iterations`.
    #[schemars(extend("x-called-elsewhere" = ["epochs", "num_epochs", "max_epochs", "max_iters"]))]
    pub length: Span,
    /// Lengths by which the training went on after its end, with all of its state (`run --extend`). Within each
    /// the schedule is that of a training as long as all up to there.
    #[serde(default)]
    pub extended: Vec<Span>,
    /// Batches whose gradients are averaged for one optimizer step.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    #[schemars(extend("x-called-elsewhere" = ["accum_iter", "gradient_accumulation_steps", "update_freq"]))]
    pub accumulate: usize,
    /// Whether images that do not fill an optimizer step at the end of an epoch are left out. With `false` that
    /// step takes the ones that are left, and its gradient is their mean.
    #[serde(default = "yes")]
    pub drop_last: bool,
    /// Largest L2 norm of the whole gradient; larger ones are scaled down to it.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    #[schemars(extend("x-called-elsewhere" = ["clip_grad", "max_grad_norm", "gradient_clip_val", "grad_clip"]))]
    pub clip_grad_norm: Option<f64>,
    /// Keeps only the inputs of blocks in the forward pass and computes the rest again in the backward
    /// (activation checkpointing): less memory, more time, the same numbers.
    #[serde(default)]
    pub checkpoint_activations: bool,
    /// Keeps an exponential moving average of the parameters, which is then evaluated and saved too.
    #[serde(default)]
    pub ema: Option<Ema>,
    /// Ends the training before its length when a metric gets no better: `{ patience: 10 }`. The schedule stays that of the whole
    /// length.
    #[serde(default)]
    #[schemars(extend("x-called-elsewhere" = ["early_stopping", "early_stop", "early_stopping_patience"]))]
    pub stop: Option<EarlyStop>,
    /// In which order the gradients of a step's batches are added up: as a tree over all of them (`tree`, the default on the
    /// CPU), so that 1, 2, 4, ... processes train with the same bits, or as they come (`fast`, the default on cards).
    #[serde(default)]
    pub reduction: Option<Reduction>,
    /// Optimizer steps between two records of loss and learning rate.
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub log_every: u64,
}

fn one() -> usize {
    1
}

fn ten() -> u64 {
    10
}

fn yes() -> bool {
    true
}

impl Train {
    /// Its parts, one after another.
    pub fn lengths(&self) -> impl Iterator<Item = Span> {
        std::iter::once(self.length).chain(self.extended.iter().copied())
    }

    /// Optimizer steps of a training that is stated in iterations.
    pub fn iterations(&self) -> Option<u64> {
        let steps = |length| if let Span::Iterations(steps) = length { Some(steps) } else { None };
        self.lengths().map(steps).sum()
    }
}

/// An exponential moving average of the parameters.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// Fraction of the old average that stays at every optimizer step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
}

/// What is measured on the validation set, and when.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// The metrics; the first one decides which checkpoint is best.
    #[schemars(extend("x-called-elsewhere" = ["metrics", "val_evaluator"]))]
    pub evaluators: Vec<Box<dyn Evaluator>>,
    /// How the model predicts for images of other sizes than `image_size`, such as in sliding windows.
    /// Without it the transforms of `data.val` yield images of `image_size`.
    #[schemars(schema_with = "optional_slot::<Box<dyn Inference>>")]
    pub inference: Option<Box<dyn Inference>>,
    /// When to evaluate. At the end in any case.
    pub every: Span,
    /// Validation images shown in the report, the same ones every time.
    #[schemars(range(max = 64))]
    pub pictures: usize,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { evaluators: Vec::new(), inference: None, every: Span::Epochs(1.0), pictures: 8 }
    }
}

/// When the state is saved.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpointing {
    /// When to save. At the end, when interrupted, and when best in any case.
    pub every: Span,
    /// Newest checkpoints that are kept besides the best one.
    #[schemars(range(min = 1), extend("x-called-elsewhere" = ["max_keep_ckpts", "save_total_limit"]))]
    pub keep: usize,
    /// Best checkpoints that are kept, by the metric that decides: an evaluation that is among so many is saved.
    #[schemars(range(min = 1), extend("x-called-elsewhere" = ["save_top_k", "checkpoint_hist"]))]
    pub keep_best: usize,
    /// Keeps the checkpoint of every so much, too: `50 epochs`.
    #[schemars(extend("x-called-elsewhere" = ["save_freq", "every_n_epochs", "save_period"]))]
    pub keep_every: Option<Span>,
}

impl Default for Checkpointing {
    fn default() -> Self {
        Self { every: Span::Epochs(1.0), keep: 2, keep_best: 1, keep_every: None }
    }
}

/// What is logged besides the files of every run.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Writes every metric as `TensorBoard` event files, too, into `tensorboard/` of the run directory.
    pub tensorboard: bool,
}
