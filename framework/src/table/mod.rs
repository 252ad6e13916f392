//! Tables of results: rows of recipes, sweeps and figures of papers, filled from run directories.
//!
//! A table file ([`TableSpec`]) is read and checked ([`Table::load`]); its rows become the runs they need,
//! each with the digest of its resolved recipe and the command that makes it; these are joined with what the
//! run directories hold, aggregated, and rendered ([`Sheet::render`]). A run of another recipe is not shown,
//! and a missing one has a note that says how to make it.

mod check;
mod code;
mod error;
mod figure;
mod fill;
mod notes;
mod paired;
mod plan;
mod produce;
mod recipes;
mod render;
mod runs;
mod sheet;
mod spec;
#[cfg(test)]
mod tests;

use std::path::Path;

use schemars::schema_for;

use crate::recipe::{Catalog, Diagnostics, Document, Problem};
pub use error::TableError;
pub use render::Format;
pub use sheet::Sheet;
pub use spec::TableSpec;

use fill::fill;
use plan::{Planner, RowPlan};
use runs::Found;

/// A valid table, and the runs that it needs.
#[derive(Debug)]
pub struct Table {
    spec: TableSpec,
    rows: Vec<RowPlan>,
}

impl Table {
    /// Reads a table file, its recipes and its sweeps, and checks all of them. Runs are looked for in the
    /// folder `runs`.
    ///
    /// # Errors
    /// Everything wrong with the file, each with its line; or with one of the recipes or sweeps.
    pub fn load(file: &Path, runs: &Path) -> Result<Self, TableError> {
        let catalog = Catalog::of_document("table", schema_for!(TableSpec).to_value());
        let document = Document::read(file, &catalog)?;
        let spec = typed(&document)?;
        let problems = check::problems(&spec);
        if !problems.is_empty() {
            return Err(document.diagnose(problems).into());
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let rows = Planner::new(&document, folder, runs).rows(&spec)?;
        let stages = rows.iter().flat_map(|row| &row.runs).map(|run| run.stage.as_str());
        let problems = check::problems_of_stages(&spec, &stages.collect());
        if !problems.is_empty() {
            return Err(document.diagnose(problems).into());
        }
        Ok(Self { spec, rows })
    }

    /// Runs the commands that make the missing runs, one after the other.
    ///
    /// # Errors
    /// When a command cannot be started, or when all have been run and some have failed.
    pub fn produce(&self) -> Result<(), TableError> {
        let found = Found::look(&self.rows)?;
        produce::produce(&self.rows, &found)
    }

    /// The table as the runs stand.
    ///
    /// # Errors
    /// When the runs cannot be read.
    pub fn sheet(&self) -> Result<Sheet, TableError> {
        let found = Found::look(&self.rows)?;
        Ok(fill(&self.spec, &self.rows, &found))
    }
}

/// The file as a table. What its schema allows is one.
fn typed(document: &Document) -> Result<TableSpec, Diagnostics> {
    serde_json::from_value(document.value().clone())
        .map_err(|error| document.diagnose(vec![Problem::new("", error.to_string())]))
}
