//! Training: optimizer steps over micro-batches, and the checkpoints between them.

pub mod checkpoint;
mod ema;
mod gradient;
mod plan;
mod tensors;
mod trainer;
mod window;

pub use ema::EmaState;
pub use plan::TrainingPlan;
pub use trainer::{StepResult, Trainer, TrainerParts};
pub use window::{Sums, Window};
