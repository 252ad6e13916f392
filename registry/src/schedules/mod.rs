//! Schedules: the learning rate over time.

mod warmup_cosine;

pub use warmup_cosine::WarmupCosine;
