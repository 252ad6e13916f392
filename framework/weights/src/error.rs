//! What can be wrong with a weights file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::pickle::PickleError;
use super::tensor::{DType, TensorError};

/// A weights file could not be read or written.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot *rename to* model.safetensors".
        operation: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The content is not what it should be; nothing of it was used.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        reason: FormatError,
    },
}

impl WeightsError {
    /// What failed when a file was accessed: `map_err(WeightsError::io("open", path))`.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { operation, path, source }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<FormatError>) -> Self {
        Self::Format { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// Why the content of a weights file is refused.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Neither safetensors nor PyTorch.
    #[error("neither a safetensors nor a PyTorch file: it starts with {start:?}")]
    Unknown {
        /// The first bytes, as text.
        start: String,
    },
    /// A Git LFS pointer in place of the file.
    #[error("a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")]
    LfsPointer,
    /// The safetensors header is broken or does not fit the data.
    #[error("not a valid safetensors file: {0}")]
    Safetensors(String),
    /// The stored digest is not the content's.
    #[error("altered: the content's blake3 is {found}, the file states {stated}")]
    Digest {
        /// The digest in the file.
        stated: String,
        /// The digest of what was read.
        found: String,
    },
    /// The zip container of a `.pth` is broken.
    #[error("not a valid PyTorch zip file: {0}")]
    Zip(String),
    /// The stream of a legacy `.pth` is broken.
    #[error("not a valid legacy PyTorch file: {0}")]
    Legacy(String),
    /// The pickle was refused.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// The storage of a tensor is missing or of another size.
    #[error("storage `{key}`: {reason}")]
    Storage {
        /// The storage's key in the file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor cannot be made of its storage.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        reason: TensorError,
    },
    /// The tensor type has no counterpart here.
    #[error("tensor `{name}` is of type {dtype}; supported are {}", DType::names())]
    UnsupportedDType {
        /// The tensor's name.
        name: String,
        /// Its type, as the file calls it.
        dtype: String,
    },
    /// A state dict holds something else than tensors.
    #[error("`{name}` is a {found}, not a tensor")]
    NotATensor {
        /// The entry's name.
        name: String,
        /// What it is.
        found: &'static str,
    },
    /// There is no state dict.
    #[error("no model in it: expected a state dict, or one under `model` or `state_dict`; found {found}")]
    NoModel {
        /// What is there.
        found: String,
    },
    /// The tensors would take far more reading and memory than the file's size justifies.
    #[error("refused: its tensors would take more than {limit} bytes, {ratio} times the file's size")]
    Expansion {
        /// The limit in bytes.
        limit: usize,
        /// How many times the file's size the limit is.
        ratio: usize,
    },
}
