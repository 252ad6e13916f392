//! The framework of convmae: an experiment is a graph of components, written as YAML.
//!
//! A recipe is loaded and checked ([`recipe`]), its components are found in the registry ([`component`]), the
//! graph is checked and built ([`graph`]) on dfdx ([`nn`]), run ([`engine`]), and leaves a run directory
//! ([`report`]). Many runs come from one sweep ([`sweep`]).

pub mod cli;
mod columns;
pub mod component;
pub mod condition;
pub mod data;
pub mod distributed;
pub mod engine;
pub mod experiment;
pub mod graph;
pub mod guard;
pub mod loader;
pub mod metrics;
pub mod reference;
pub mod report;
pub mod runs;
mod shell;
pub mod sweep;
pub mod table;
mod terminal;

pub use convmae_nn::{self as nn, random};
pub use {convmae_recipe as recipe, convmae_weights as weights};

/// What [`register!`] expands to.
#[doc(hidden)]
pub mod __private {
    pub use {inventory, schemars};
}
