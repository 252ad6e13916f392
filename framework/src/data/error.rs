//! Why data could not be read.

use std::path::PathBuf;

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
    /// There is nothing to put in the place of corrupt samples.
    #[error("all samples of the dataset are corrupt ({length}); the first: {first}")]
    AllCorrupt {
        /// Samples in the dataset.
        length: usize,
        /// Files and reasons of the first ones.
        first: String,
    },
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
    #[error("{sample}: the data pipeline panicked: {message}")]
    Panicked {
        /// The sample, by what it is called in messages, or by its index where that is not known.
        sample: String,
        /// What the panic said.
        message: String,
    },
}
