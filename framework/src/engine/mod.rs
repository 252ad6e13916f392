//! What the commands `run`, `eval`, `predict`, `embed`, `trace` and `bench` do.
//!
//! [`train`] and `evaluate` are the loops, `setup` makes from a recipe what they work on, `run` is a training
//! with its run directory.

mod attention;
mod bench;
mod browse;
mod embed;
mod error;
mod eval;
mod evaluate;
mod export;
mod features;
mod images;
mod init;
mod predict;
mod prune;
mod ranking;
mod run;
mod schedule_plot;
mod setup;
mod timing;
mod together;
mod trace;
pub mod train;

pub use bench::{BenchOptions, BenchReport, DataSpeed, Exchanged, Item as BenchItem, bench};
pub use browse::{BrowseOptions, browse};
pub use embed::{EmbedOptions, Embedding, embed};
pub use error::EngineError;
pub use eval::{EvalReport, eval};
pub use evaluate::Evaluation;
pub use export::export;
pub use init::initial_weights;
pub use predict::{ClassProbability, Prediction, Wanted, predict};
pub use prune::{PruneOptions, Pruned, prune};
pub use run::{DryRun, Outcome, RunOptions, Stop, dry_run, run};
pub(crate) use run::{StopSignal, terminate_after};
pub use schedule_plot::plot_schedule;
pub use setup::lineage::{changes_since, lineage, lineage_of, source_has_changed, source_of, started_from};
pub use setup::{
    Inspection, Look, Outlook, RunWeights, SplitReport, TrainedOptions, checkpoint_of_run, inspect,
    weights_of_run,
};
pub(crate) use timing::{cost, training_seconds};
pub(crate) use together::together;
pub use trace::{TraceOptions, trace};
pub(crate) use train::TrainingPlan;
