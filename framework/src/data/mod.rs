//! Samples, batches, image operations, and the loader.

mod batch;
mod sample;

pub use batch::Batch;
pub use sample::{Instance, Normalization, Pixels, Sample, Target};
