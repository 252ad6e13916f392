//! Datasets: where samples come from.

use std::path::PathBuf;

use rand::seq::SliceRandom as _;

use super::TaskKind;
use super::registry::slot_schema;
use crate::data::Sample;
use crate::random::{self, Purpose};

/// A source of samples, as the recipe states it.
#[typetag::serde(tag = "type")]
pub trait Dataset: std::fmt::Debug + Send + Sync {
    /// Opens the source: lists folders, reads indices, but no sample yet.
    fn open(&self) -> Result<Box<dyn Samples>, DataError>;
}

slot_schema!(Dataset);

/// An opened dataset: samples by index.
pub trait Samples: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads and decodes a sample. Called from several threads.
    fn get(&self, index: usize) -> Result<Sample, DataError>;

    /// The class of a sample, where that is known without reading it.
    fn class(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }

    /// The names of the classes that a task tells apart, by index, where the data has such classes: of images, of the values of
    /// label maps, of objects.
    fn classes(&self, task: TaskKind) -> Option<&[String]> {
        let _ = task;
        None
    }

    /// The order of an epoch's samples, a function of seed and epoch only. A permutation, unless the storage asks for
    /// something closer to its own order.
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut random::stream(Purpose::Order, &[seed, epoch]));
        order
    }
}

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read at all.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One sample is broken: reported, counted and replaced by the next one.
    #[error("{path}: {reason}")]
    Corrupt {
        /// The file, with its place within an archive where it has one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The dataset is not what its description says (an empty folder, a missing index).
    #[error("{path}: {reason}")]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A sample and a transform do not fit (a `Resize` after `Normalize`).
    #[error("{0}")]
    Transform(String),
    /// More samples are corrupt than `max_corrupt` allows.
    #[error("{count} of {length} samples are corrupt, `max_corrupt` allows {limit}; the first: {first}")]
    TooManyCorrupt {
        /// Corrupt samples found so far.
        count: usize,
        /// Samples in the dataset.
        length: usize,
        /// Corrupt samples that are allowed.
        limit: usize,
        /// Files and reasons of the first ones.
        first: String,
    },
    /// A dataset or a transform panicked.
    #[error("sample {index}: the data pipeline panicked: {message}")]
    Panicked {
        /// Index of the sample.
        index: usize,
        /// What the panic said.
        message: String,
    },
}
