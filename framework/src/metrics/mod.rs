//! Meters that turn losses and predictions into figures.

mod areas;
pub mod coco;
mod mean;
mod principal;
mod smoothing;
mod spread;
pub mod state;
mod throughput;

pub use areas::ConfusionAreas;
pub use mean::WeightedMean;
pub use principal::{Principal, principal_components};
pub use smoothing::{Ema, smooth};
pub use spread::Spread;
pub use throughput::Throughput;
