//! Parquet files that are written as their rows come: complete, or not there at all.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;

use super::output::CliError;
use crate::engine::EngineError;
use crate::weights::atomic::Pending;

/// A Parquet file in the making.
pub struct TableFile {
    pending: Pending,
    writer: Option<Box<BatchedWriter<File>>>,
}

impl TableFile {
    /// A file that will be at a path.
    ///
    /// # Errors
    /// If there can be none beside it.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let pending = Pending::create(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { pending, writer: None })
    }

    /// Adds rows; those of all calls have the same columns.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, rows: &DataFrame) -> Result<(), CliError> {
        let fail = |error: &dyn Display| cannot_write(self.pending.path(), error);
        let writer = if let Some(writer) = &mut self.writer {
            writer
        } else {
            let file = self.pending.file().map_err(|error| fail(&error))?;
            let writer = ParquetWriter::new(file).batched(rows.schema()).map_err(|error| fail(&error))?;
            self.writer.insert(Box::new(writer))
        };
        writer.write_batch(rows).map_err(|error| fail(&error))
    }

    /// Puts the file in its place, if it has rows.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(), CliError> {
        let Self { pending, writer } = self;
        let Some(writer) = writer else { return Ok(()) };
        writer.finish().map_err(|error| cannot_write(pending.path(), &error))?;
        let path = pending.path().to_owned();
        pending.commit().map_err(|error| cannot_write(&path, &error))
    }
}

/// A file that cannot be written.
pub fn cannot_write(path: &Path, error: &dyn Display) -> CliError {
    CliError::Engine(EngineError::Usage(format!("cannot write {}: {error}", path.display())))
}
