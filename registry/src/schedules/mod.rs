//! Schedules: the learning rate over time.

mod length;
mod multi_step;
mod poly;
mod warmup;
mod warmup_cosine;
mod warnings;

pub use length::Length;
pub use multi_step::MultiStep;
pub use poly::Poly;
pub use warmup_cosine::WarmupCosine;
