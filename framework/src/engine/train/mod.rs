//! Training: optimizer steps over micro-batches, and the checkpoints between them.

pub mod checkpoint;
mod ema;
mod gradient;
mod plan;
mod tensors;
mod trainer;
mod upload_ahead;
mod window;

pub use ema::EmaState;
pub use plan::TrainingPlan;
pub use tensors::param_tensors;
pub use trainer::{StepResult, Trainer, TrainerParts};
pub(crate) use upload_ahead::UploadAhead;
pub use window::{Sums, Window};
