//! Meters that turn losses and predictions into figures.

mod mean;
mod smoothing;
mod throughput;

pub use mean::WeightedMean;
pub use smoothing::{Ema, smooth};
pub use throughput::Throughput;
