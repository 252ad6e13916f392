//! Why a run failed.

use std::path::PathBuf;

use crate::component::MeterError;
use crate::data::DataError;
use crate::distributed::CommunicationError;
use crate::metrics::coco::ResultsError;
use crate::nn;
use crate::recipe::Diagnostics;
use crate::report::ReportError;
use crate::weights::{KeyReport, WeightsError};

use super::train::checkpoint::CheckpointError;

/// Why a run failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EngineError {
    /// The recipe has mistakes: nothing was run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Recipe(#[from] Diagnostics),
    /// Data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An evaluator cannot measure a batch.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Meter(#[from] MeterError),
    /// Results cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The processes of the run cannot work together.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Communication(#[from] CommunicationError),
    /// Another process of the run failed.
    #[error("process {rank}: {message}")]
    OtherProcess {
        /// Its number.
        rank: usize,
        /// What it says.
        message: String,
    },
    /// Tensor code failed.
    #[error(transparent)]
    Tensor(nn::Error),
    /// The card cannot hold what is computed.
    #[error("the card has no memory left")]
    #[diagnostic(help(
        "a smaller `data.train.batch_size` with as much larger a `train.accumulate` trains the same; \
         `train.checkpoint_activations: true` keeps less of a step, `precision: bf16` keeps it in half the memory"
    ))]
    OutOfMemory,
    /// The run directory could not be used.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A weights file could not be written or read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A loss, or the norm of the gradient, is infinite or not a number.
    #[error("{what} is {value} at step {}; images: {images}", step + 1)]
    #[diagnostic(help(
        "nothing was saved from this step; {}. Resuming would come here again: start a new run with a lower learning rate, a \
         longer warm-up, or `train.clip_grad_norm`, from the beginning or from a checkpoint (`init_from.weights`)",
        last_checkpoint(*checkpoint)
    ))]
    NotFinite {
        /// What failed: `the loss decoder.reconstruction`.
        what: String,
        /// Its value.
        value: f64,
        /// The optimizer step, from 0.
        step: u64,
        /// The first images of the batch.
        images: String,
        /// Step of the last checkpoint, 0 if there is none.
        checkpoint: u64,
    },
    /// An image is of a class that a head does not tell apart.
    #[error("{image}: class {class}, but the head `{head}` tells {classes} classes apart, from 0 on")]
    #[diagnostic(help("evaluate on data with the classes that the model was trained on"))]
    UnknownClass {
        /// What the image is called.
        image: String,
        /// The class, of the image or of a part of it.
        class: usize,
        /// The head.
        head: String,
        /// How many classes it tells apart.
        classes: usize,
    },
    /// Nothing of the validation set counts for an evaluator.
    #[error("`{0}` cannot be measured: nothing in the validation set is labelled")]
    #[diagnostic(help(
        "of label maps whose every pixel is ignored nothing is left: 255 is, and 0 with `reduce_zero_label`"
    ))]
    NothingMeasured(&'static str),
    /// The recipe is not the one the run was started with.
    #[error("{} was started with another recipe:\n{changes}", run.display())]
    RecipeChanged {
        /// The run directory.
        run: PathBuf,
        /// A line for every change.
        changes: String,
        /// What can be done.
        #[help]
        help: String,
    },
    /// Weights are infinite or not a number.
    #[error("{}: the tensor `{tensor}` is damaged: {count} of its {of} values are NaN or infinite", path.display())]
    #[diagnostic(help(
        "the training that saved it has diverged, or the file is broken: take an earlier checkpoint, or download it again"
    ))]
    NotFiniteWeights {
        /// The weights file.
        path: PathBuf,
        /// The tensor, under the model's name.
        tensor: String,
        /// Values that are not finite.
        count: usize,
        /// All its values.
        of: usize,
    },
    /// A weights file does not fit the model.
    #[error("{} does not fit the model: {report}", path.display())]
    WeightsMismatch {
        /// The weights file.
        path: PathBuf,
        /// Every name that does not fit.
        report: Box<KeyReport>,
        /// What can be done.
        #[help]
        help: String,
    },
    /// Something else that the user can mend.
    #[error("{0}")]
    Usage(String),
    /// The system did not let us listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

impl From<nn::Error> for EngineError {
    fn from(error: nn::Error) -> Self {
        match error {
            nn::Error::OutOfMemory => Self::OutOfMemory,
            error => Self::Tensor(error),
        }
    }
}

fn last_checkpoint(step: u64) -> String {
    match step {
        0 => "there is no checkpoint yet".to_owned(),
        step => format!("the last checkpoint is that of step {step}"),
    }
}
