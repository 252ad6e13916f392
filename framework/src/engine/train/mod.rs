//! Training: optimizer steps over micro-batches, and the checkpoints between them.

pub mod checkpoint;
mod ema;
mod exchange;
mod gradient_sum;
mod meeting;
mod plan;
mod queued;
mod tensors;
mod trainer;
mod upload_ahead;
mod window;

pub use ema::EmaState;
pub(crate) use exchange::Exchange;
pub use plan::TrainingPlan;
pub use queued::StepResult;
pub use tensors::param_tensors;
pub use trainer::{Trainer, TrainerParts};
pub(crate) use upload_ahead::UploadAhead;
pub use window::{Sums, Window};
