//! Batch transforms: what happens to samples once they are batched.

use super::DataError;
use super::registry::slot_schema;
use crate::data::Batch;
use crate::random::Rng;

/// A step from batch to batch: mixing of images with each other.
#[typetag::serde(tag = "type")]
pub trait BatchTransform: std::fmt::Debug + Send + Sync {
    /// Transforms a batch. All randomness comes from `rng`, which depends on (seed, epoch, number of the batch) only.
    fn apply(&self, batch: Batch, rng: &mut Rng) -> Result<Batch, DataError>;
}

slot_schema!(BatchTransform);
