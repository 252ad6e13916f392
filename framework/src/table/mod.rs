//! Tables of results: rows of recipes, sweeps and figures of papers, filled from run directories.
//!
//! A table file ([`TableSpec`]) is read and checked ([`Table::load`]); its rows become the runs they need, each with the digest of its
//! resolved recipe and the command that makes it; these are joined with what the run directories hold, aggregated, and rendered
//! ([`Sheet::render`]). A run of another recipe is not shown, and a missing one has a note that says how to make it.

mod check;
mod code;
mod error;
mod figure;
mod fill;
mod load;
mod notes;
mod plan;
mod produce;
mod recipes;
mod render;
mod runs;
mod sheet;
mod spec;
mod sweep;
#[cfg(test)]
mod tests;

pub use error::TableError;
pub use load::Table;
pub use render::Format;
pub use sheet::Sheet;
pub use spec::TableSpec;
