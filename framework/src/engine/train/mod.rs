//! Training: optimizer steps over micro-batches, and the checkpoints between them.

pub mod checkpoint;
mod ema;
mod plan;
mod queued;
mod tensors;
mod trainer;
mod window;

pub use plan::TrainingPlan;
pub use queued::StepResult;
pub use trainer::{Trainer, TrainerParts};
pub use window::{Sums, Window};
