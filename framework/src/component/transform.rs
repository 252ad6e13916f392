//! Transforms: what happens to a sample before it is batched.

use super::Problem;
use super::registry::slot_schema;
use crate::data::{DataError, Normalization, Sample};
use crate::random::Rng;

/// A step from sample to sample.
#[typetag::serde(tag = "type")]
pub trait Transform: std::fmt::Debug + Send + Sync {
    /// Transforms a sample. All randomness comes from `rng`, which depends on (seed, epoch, index) only.
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError>;

    /// The normalisation, if that is all that it does. At the end of the transforms it is left to batching,
    /// which writes into the batch what [`apply`](Self::apply) would have to keep for every image.
    fn normalization(&self) -> Option<Normalization> {
        None
    }

    /// What is known of the result before any sample is read.
    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem>;
}

slot_schema!(Transform);

/// What is known of a sample's image before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleShape {
    /// Its channels.
    pub channels: usize,
    /// Height and width, if every image has the same.
    pub size: Option<(usize, usize)>,
    /// Whether pixels are normalised floats by now.
    pub normalized: bool,
}

impl Default for SampleShape {
    /// Pixels of RGB images of any size.
    fn default() -> Self {
        Self { channels: 3, size: None, normalized: false }
    }
}
