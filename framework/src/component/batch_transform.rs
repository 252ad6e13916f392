//! Batch transforms: what happens to samples once they are batched.

use super::Problem;
use super::registry::slot_schema;
use crate::data::{Batch, DataError};
use crate::random::Rng;

/// A step from batch to batch: mixing of images with each other.
#[typetag::serde(tag = "type")]
pub trait BatchTransform: std::fmt::Debug + Send + Sync {
    /// Transforms a batch. All randomness comes from `rng`, which depends on (seed, epoch, number of the
    /// batch) only.
    fn apply(&self, batch: Batch, rng: &mut Rng) -> Result<Batch, DataError>;

    /// Whether the fields fit each other; asked before data is read.
    ///
    /// # Errors
    /// What is wrong, by its key within the component.
    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}

slot_schema!(BatchTransform);
