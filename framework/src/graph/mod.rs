//! From a resolved recipe to a checked and built model.
//!
//! The `model` section of a recipe is a graph of named nodes. [`Plan`] connects them and puts them in order;
//! [`Model::build`] creates their modules, in a describing scope (shapes, parameters and multiply-adds only)
//! or with values.

mod catalog;
mod check;
mod draw;
mod example;
mod forward;
mod heads;
mod model;
mod plan;
mod summary;
mod warnings;

pub use catalog::{block_schema, catalog};
pub use check::{Checked, Draft, check, load};
pub use draw::{dot, mermaid};
pub use forward::Outputs;
pub use heads::Heads;
pub use model::Model;
pub use plan::{Plan, Planned};
pub use summary::{Row, Summary, thousands};
pub use warnings::{warn, warnings, warnings_of_heads, warnings_of_schedule};
