//! Sweeps: many runs from one file.
//!
//! A sweep file names a recipe, or a chain of recipes in which one starts from the weights of another, and what varies
//! ([`Sweep`]). It is expanded into a [`Plan`] of runs, every one of them checked, before the first one starts. What is done
//! is told by the run directories alone.

mod block;
mod name;
mod plan;
mod resolve;
mod schema;
mod spec;
mod stage;
#[cfg(test)]
mod tests;
mod variant;

pub use plan::{Plan, PlannedRun};
pub(crate) use resolve::text as argument;
pub use spec::Sweep;
