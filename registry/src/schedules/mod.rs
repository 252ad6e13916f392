//! Schedules: the learning rate over time.

mod poly;
mod warmup_cosine;

pub use poly::Poly;
pub use warmup_cosine::WarmupCosine;
