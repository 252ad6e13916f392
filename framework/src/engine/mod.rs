//! Training and evaluation loops, checkpoints, resume.

mod bench;
pub mod checkpoint;
mod classes;
mod device;
mod ema;
mod error;
mod eval;
mod evaluate;
mod gradient;
mod initialize;
mod plan;
mod predict;
mod predictor;
mod prepare;
mod run;
mod session;
mod signal;
mod state;
mod trace;
mod trained;
mod trainer;
mod window;
mod write;

pub use bench::{BenchOptions, BenchReport, DataSpeed, Item as BenchItem, bench};
pub use error::EngineError;
pub use eval::{EvalReport, eval};
pub use evaluate::Evaluation;
pub use initialize::weights_of_run;
pub(crate) use plan::TrainingPlan;
pub use predict::{ClassProbability, Prediction, predict};
pub use run::{Outcome, RunOptions, changes_of_results, run};
pub(crate) use signal::{StopSignal, terminate_after};
pub use trace::{TraceOptions, trace};
pub use trained::TrainedOptions;
