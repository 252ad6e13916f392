//! Where the bytes of tensors come from, and how many may be read.

use super::super::error::FormatError;
use super::super::pickle::StorageRef;

/// Where the bytes of tensors come from.
pub(super) trait Storages {
    /// All bytes of a storage; those that have to be read for it are taken from the budget.
    fn bytes(&mut self, storage: &StorageRef, budget: &mut Budget) -> Result<&[u8], FormatError>;
}

/// Views may repeat elements of their storage (ties, `expand`), and storages may be read again, but not
/// without bound.
const MAX_EXPANSION: usize = 16;

/// Bytes that may still be read or copied for a file's tensors.
pub(super) struct Budget {
    limit: usize,
    left: usize,
}

impl Budget {
    /// That of a file of the given length.
    pub fn new(file_len: u64) -> Self {
        let limit = usize::try_from(file_len).unwrap_or(usize::MAX).saturating_mul(MAX_EXPANSION);
        Self { limit, left: limit }
    }

    pub fn spend(&mut self, bytes: usize) -> Result<(), FormatError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(FormatError::Expansion { limit: self.limit, ratio: MAX_EXPANSION })?;
        Ok(())
    }
}
