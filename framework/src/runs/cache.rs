//! A cache of the records of a tree of runs, one file at its root.

use std::collections::HashMap;
use std::path::Path;

use polars::prelude::*;

use super::RunsError;
use super::record::{Record, Stamp};
use crate::report::parquet;

const FILE: &str = ".convmae-runs.parquet";
const WHAT: &str = "cache of runs";
/// The column of the records; another number when they change, so that older files are not understood.
const RECORD: &str = "record 1";

/// A run as it was read before.
pub struct Cached {
    pub stamp: Stamp,
    json: String,
}

impl Cached {
    pub fn record(&self) -> Option<Record> {
        serde_json::from_str(&self.json).ok()
    }
}

/// The runs of the cache by name; none if there is no file, or it is not one of ours.
pub fn read(root: &Path) -> HashMap<String, Cached> {
    let of_frame = |frame: &DataFrame| -> PolarsResult<_> {
        let column = |name| frame.column(name)?.str();
        let rows = column("run")?.iter().zip(column("stamp")?.iter()).zip(column(RECORD)?.iter());
        let cached = rows.filter_map(|((run, stamp), json)| {
            Some((run?.to_owned(), Cached { stamp: Stamp(stamp?.to_owned()), json: json?.to_owned() }))
        });
        Ok(cached.collect())
    };
    parquet::read(&root.join(FILE), WHAT, of_frame).unwrap_or_else(|error| {
        tracing::debug!("all runs are read: {error}");
        HashMap::new()
    })
}

/// Writes the cache.
pub fn write<'r>(
    root: &Path,
    runs: impl Iterator<Item = (&'r str, &'r Stamp, &'r Record)>,
) -> Result<(), RunsError> {
    let rows: Vec<_> = runs
        // Names and plain values always serialise.
        .map(|(run, stamp, record)| {
            (run, stamp.0.as_str(), serde_json::to_string(record).unwrap_or_default())
        })
        .collect();
    let frame = DataFrame::new(
        rows.len(),
        vec![
            Column::new("run".into(), rows.iter().map(|row| row.0).collect::<Vec<_>>()),
            Column::new("stamp".into(), rows.iter().map(|row| row.1).collect::<Vec<_>>()),
            Column::new(RECORD.into(), rows.iter().map(|row| row.2.as_str()).collect::<Vec<_>>()),
        ],
    );
    Ok(parquet::write(&root.join(FILE), WHAT, frame).map(drop)?)
}
