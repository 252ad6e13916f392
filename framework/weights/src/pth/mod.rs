//! PyTorch checkpoints, as written by `torch.save`.
//!
//! Since PyTorch 1.6 a `.pth` is a [zip archive](zip) with one pickle and one entry per storage; before that
//! it was a [stream](legacy) of pickles followed by the storages. detectron2's `.pkl` are single pickles with
//! arrays of numpy.

mod contents;
mod dict;
mod entry;
mod legacy;
mod storages;
mod view;
mod write;
mod zip;

use std::io::{Read, Seek};
use std::path::Path;

use super::error::{FormatError, WeightsError};
use super::file::{Selection, WeightsFile};

pub use dict::{PickledDict, read_pickled_dict};
pub use write::write_pth;

/// Reads a `.pth` in zip format.
pub(super) fn read_zip(path: &Path, selection: Selection<'_>) -> Result<WeightsFile, WeightsError> {
    let file = std::fs::File::open(path).map_err(WeightsError::io("open", path))?;
    let file_len = file.metadata().map_err(WeightsError::io("read", path))?.len();
    unzip(file, file_len, selection).map_err(|reason| WeightsError::format(path, reason))
}

/// Reads a `.pth` in the format of PyTorch before 1.6, or another pickle.
pub(super) fn read_pickle(path: &Path, selection: Selection<'_>) -> Result<WeightsFile, WeightsError> {
    let bytes = std::fs::read(path).map_err(WeightsError::io("read", path))?;
    unpickle(&bytes, selection).map_err(|reason| WeightsError::format(path, reason))
}

pub(super) fn unzip(
    file: impl Read + Seek,
    file_len: u64,
    selection: Selection<'_>,
) -> Result<WeightsFile, FormatError> {
    let (value, mut storages) = zip::open(file, file_len)?;
    contents::read(value, &mut storages, file_len, selection)
}

pub(super) fn unpickle(bytes: &[u8], selection: Selection<'_>) -> Result<WeightsFile, FormatError> {
    let (value, mut storages) = legacy::open(bytes)?;
    contents::read(value, &mut storages, bytes.len() as u64, selection)
}
