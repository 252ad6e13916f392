//! Sweeps: many runs from one file.
//!
//! A sweep file names a recipe, or a chain of recipes in which one starts from the weights of another, and
//! what varies ([`Sweep`]). It is expanded into a [`Plan`] of runs, every one of them checked, before the
//! first one starts. They are done by processes of this program ([`local`]), or as jobs of a Slurm cluster
//! ([`ArrayJob`]). What is done is told by the run directories alone ([`RunState`]).

mod at_work;
mod block;
mod block_reader;
mod command;
mod error;
mod estimate;
pub mod local;
mod manifest;
mod name;
mod plan;
mod resolve;
mod root;
mod slurm;
mod spec;
mod stage;
mod state;
#[cfg(test)]
mod tests;

pub use at_work::AtWork;
pub use error::SweepError;
pub use plan::{Plan, PlannedRun};
pub(crate) use resolve::text as argument;
pub use slurm::{ArrayJob, SlurmOptions};
pub use spec::Sweep;
pub use state::RunState;
