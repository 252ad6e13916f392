//! The reference of components and recipes, generated from the documentation and the schemas in the registry.

mod example;
mod fields;
mod markdown;
mod yaml;

pub use example::example;
pub use fields::{Choice, Field, fields};
pub use markdown::{Page, pages};
