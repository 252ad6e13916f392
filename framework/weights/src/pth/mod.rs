//! PyTorch checkpoints, as written by `torch.save`.
//!
//! Since PyTorch 1.6 a `.pth` is a [zip archive](zip) with one pickle and one entry per storage; before that
//! it was a [stream](legacy) of pickles followed by the storages.

mod contents;
mod legacy;
mod storages;
mod view;
mod write;
mod zip;

use std::path::Path;

use super::error::WeightsError;
use super::file::{Part, WeightsFile};

pub use write::write_pth;

/// Reads a `.pth` in zip format.
pub(super) fn read_zip(path: &Path, part: Part) -> Result<WeightsFile, WeightsError> {
    let file = std::fs::File::open(path).map_err(WeightsError::io("open", path))?;
    let file_len = file.metadata().map_err(WeightsError::io("read", path))?.len();
    let read = || {
        let (value, mut storages) = zip::open(file, file_len)?;
        contents::read(value, &mut storages, file_len, part)
    };
    read().map_err(|reason| WeightsError::format(path, reason))
}

/// Reads a `.pth` in the format of PyTorch before 1.6.
pub(super) fn read_legacy(path: &Path, part: Part) -> Result<WeightsFile, WeightsError> {
    let bytes = std::fs::read(path).map_err(WeightsError::io("read", path))?;
    let read = || {
        let (value, mut storages) = legacy::open(&bytes)?;
        contents::read(value, &mut storages, bytes.len() as u64, part)
    };
    read().map_err(|reason| WeightsError::format(path, reason))
}
