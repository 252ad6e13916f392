//! Training and evaluation loops, checkpoints, resume.

mod bench;
pub mod checkpoint;
mod device;
mod ema;
mod error;
mod evaluate;
mod gradient;
mod initialize;
mod plan;
mod prepare;
mod run;
mod session;
mod signal;
mod state;
mod trace;
mod trainer;
mod window;
mod write;

pub use bench::{BenchOptions, BenchReport, DataSpeed, Item as BenchItem, bench};
pub use error::EngineError;
pub use evaluate::Evaluation;
pub use run::{Outcome, RunOptions, run};
pub use trace::{TraceOptions, trace};
