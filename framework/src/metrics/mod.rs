//! Meters that turn losses and predictions into figures.

mod areas;
pub mod coco;
mod mean;
mod principal;
mod smoothing;
pub mod state;
mod throughput;

pub use areas::ConfusionAreas;
pub use mean::WeightedMean;
pub use principal::{Principal, principal_components};
pub use smoothing::{Ema, smooth};
pub use throughput::Throughput;
