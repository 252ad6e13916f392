//! What can be wrong with a weights file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::pickle::PickleError;
use super::tensor::{DType, TensorError};
use super::text::visible;

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
    /// Nothing is in it.
    #[error("the file is empty")]
    Empty,
    /// It ends early.
    #[error("truncated: {0}")]
    Truncated(String),
    /// What a page says in place of the file, or the page around it.
    #[error("a web page, not weights; download the file itself")]
    WebPage,
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
    #[error("not a valid safetensors file: {}", visible(.0))]
    Safetensors(String),
    /// The stored digest is not the content's.
    #[error("altered: the content's blake3 is {found}, the file states {}", visible(stated))]
    Digest {
        /// The digest in the file.
        stated: String,
        /// The digest of what was read.
        found: String,
    },
    /// The zip container of a `.pth` is broken.
    #[error("not a valid PyTorch zip file: {}", visible(.0))]
    Zip(String),
    /// The stream of a legacy `.pth` is broken.
    #[error("not a valid legacy PyTorch file: {0}")]
    Legacy(String),
    /// The pickle was refused.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// The storage of a tensor is missing or of another size.
    #[error("storage `{}`: {reason}", visible(key))]
    Storage {
        /// The storage's key in the file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor cannot be made of its storage.
    #[error("tensor `{}`: {reason}", visible(name))]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        reason: TensorError,
    },
    /// The tensor type has no counterpart here.
    #[error("tensor `{}` is of type {dtype}; supported are {}", visible(name), DType::names())]
    UnsupportedDType {
        /// The tensor's name.
        name: String,
        /// Its type, as the file calls it.
        dtype: String,
    },
    /// A pickle of something else than a dict.
    #[error("no dict in it, but a {}", visible(found))]
    NoDict {
        /// What is there.
        found: String,
    },
    /// There is no state dict.
    #[error(
        "no model in it: expected a state dict, or one under `model`, `state_dict` or `module`; found {}",
        visible(found)
    )]
    NoModel {
        /// What is there.
        found: String,
    },
    /// There are several state dicts, and nothing tells which is meant.
    #[error(
        "it holds several models: {}; say which, with `entry: {}` in `init_from` or `--entry {}`",
        listed(entries),
        first(entries),
        first(entries)
    )]
    Entries {
        /// Their names.
        entries: Vec<String>,
    },
    /// The state dict that was asked for is not there.
    #[error("no entry `{entry}` in it; there are {}", listed(entries))]
    NoEntry {
        /// What was asked for.
        entry: String,
        /// What is there.
        entries: Vec<String>,
    },
    /// A part of weights in several files is not there.
    #[error("its part {} is missing; download that, too", visible(part))]
    MissingPart {
        /// The part's file name.
        part: String,
    },
    /// The index of weights in several files does not fit them.
    #[error("not a valid index of weights in parts: {}", visible(.0))]
    Index(String),
    /// A folder without weights, or with several.
    #[error("a folder with {found}; name the file")]
    Folder {
        /// What is in it.
        found: String,
    },
    /// Two tensors would have the same name.
    #[error("two of its tensors would be called `{}`: `{}` and `{}`", visible(name), visible(&from[0]), visible(&from[1]))]
    SameName {
        /// The new name.
        name: String,
        /// Their names in the file.
        from: [String; 2],
    },
    /// Tensors cannot be joined, or one cannot be split, as a layout says.
    #[error("`{}` cannot be made of {}: they are of other shapes or types", visible(name), listed(from))]
    Join {
        /// The new name.
        name: String,
        /// Their names in the file.
        from: Vec<String>,
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

/// Names that a message lists; the rest is counted.
const LISTED: usize = 8;

fn listed(names: &[String]) -> String {
    let mut listed: Vec<String> =
        names.iter().take(LISTED).map(|name| format!("`{}`", visible(name))).collect();
    if names.len() > LISTED {
        listed.push(format!("{} more", names.len() - LISTED));
    }
    listed.join(", ")
}

fn first(names: &[String]) -> String {
    names.first().map(|name| visible(name)).unwrap_or_default()
}
