//! PyTorch checkpoints, as written by `torch.save`.
//!
//! Since PyTorch 1.6 a `.pth` is a [zip archive](zip) with one pickle and one entry per storage; before that it was a
//! [stream](legacy) of pickles followed by the storages.

mod contents;
mod legacy;
mod view;
mod write;
mod zip;

use std::path::Path;

use super::error::{FormatError, WeightsError};
use super::pickle::StorageRef;
use super::{Part, WeightsFile};

pub use write::write_pth;

/// Bytes of a pickle; that of a full ConvMAE checkpoint has 200 kB.
const MAX_PICKLE: usize = 64 << 20;

/// Where the bytes of tensors come from.
trait Storages {
    /// All bytes of a storage; those that have to be read for it are taken from the budget.
    fn bytes(&mut self, storage: &StorageRef, budget: &mut Budget) -> Result<&[u8], FormatError>;
}

/// Views may repeat elements of their storage (ties, `expand`), and storages may be read again, but not without bound.
const MAX_EXPANSION: usize = 16;

/// Bytes that may still be read or copied for a file's tensors.
struct Budget {
    limit: usize,
    left: usize,
}

impl Budget {
    /// That of a file of the given length.
    fn new(file_len: u64) -> Self {
        let limit = usize::try_from(file_len).unwrap_or(usize::MAX).saturating_mul(MAX_EXPANSION);
        Self { limit, left: limit }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), FormatError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(FormatError::Expansion { limit: self.limit, ratio: MAX_EXPANSION })?;
        Ok(())
    }
}

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
