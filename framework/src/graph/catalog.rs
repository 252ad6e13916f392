//! The registry as the data that recipes are checked against.

use schemars::schema_for;

use crate::component;
use crate::experiment::Experiment;
use crate::recipe::{Catalog, CatalogEntry};

/// Every registered component and the schema of a whole recipe.
pub fn catalog() -> Catalog {
    let entries = component::entries().into_iter().map(|entry| CatalogEntry {
        kind: entry.kind.name().to_owned(),
        name: entry.name.to_owned(),
        schema: (entry.schema)().to_value(),
    });
    Catalog::new(entries.collect(), schema_for!(Experiment).to_value())
}
