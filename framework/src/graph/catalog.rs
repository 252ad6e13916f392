//! The registry as the data that recipes are checked against.

use schemars::schema_for;
use serde_json::{Map, Value};

use crate::component::{self, Entry, Kind};
use crate::experiment::{Experiment, HeadWiring};
use crate::recipe::{Catalog, CatalogEntry};

/// Every registered component and the schema of a whole recipe.
pub fn catalog() -> Catalog {
    let entries = component::entries().into_iter().map(|entry| CatalogEntry {
        kind: entry.kind.name().to_owned(),
        name: entry.name.to_owned(),
        schema: block_schema(entry),
    });
    Catalog::new(entries.collect(), schema_for!(Experiment).to_value())
}

/// The schema of a component's block in a recipe: its fields, and for a head those that every head has.
pub fn block_schema(entry: &Entry) -> Value {
    let mut schema = (entry.schema)();
    if [Kind::Head, Kind::InstanceHead].contains(&entry.kind) {
        let mut wiring = schema_for!(HeadWiring);
        let wiring = wiring.get_mut("properties").and_then(Value::as_object_mut).map(std::mem::take);
        let properties =
            schema.ensure_object().entry("properties").or_insert_with(|| Value::Object(Map::new()));
        if let (Some(properties), Some(wiring)) = (properties.as_object_mut(), wiring) {
            properties.extend(wiring);
        }
    }
    schema.to_value()
}
