//! The components of convmae, one per file; [`detection`] is what those of detection are made of.
//!
//! A crate that wants them in its registry says `use convmae_registry as _;`.

pub mod backbones;
pub mod batch_transforms;
mod checks;
pub mod datasets;
pub mod detection;
pub mod evaluators;
pub mod heads;
pub mod inferences;
pub mod instance_heads;
pub mod maskers;
pub mod necks;
pub mod optimizers;
pub mod schedules;
mod transformer;
pub mod transforms;
