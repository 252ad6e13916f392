//! Schedules: the learning rate over time.

mod constant;
mod cosine_restarts;
mod length;
mod linear;
mod multi_step;
mod poly;
#[cfg(test)]
mod testing;
mod warmup;
mod warmup_cosine;
mod warnings;

pub use constant::Constant;
pub use cosine_restarts::CosineRestarts;
pub use length::Length;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use poly::Poly;
pub use warmup_cosine::WarmupCosine;
