//! Parquet files that are written as their rows come: complete, or not there at all.

use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::*;
use tempfile::NamedTempFile;

use super::output::CliError;
use crate::engine::EngineError;

/// A Parquet file in the making, under another name.
pub struct TableFile {
    path: PathBuf,
    temporary: NamedTempFile,
    writer: Option<Box<BatchedWriter<File>>>,
}

impl TableFile {
    /// A file that will be at a path.
    ///
    /// # Errors
    /// If there can be none beside it.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = builder().tempfile_in(folder).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), temporary, writer: None })
    }

    /// Adds rows; those of all calls have the same columns.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, rows: &DataFrame) -> Result<(), CliError> {
        let fail = |error: &dyn Display| cannot_write(&self.path, error);
        let writer = if let Some(writer) = &mut self.writer {
            writer
        } else {
            let file = self.temporary.reopen().map_err(|error| fail(&error))?;
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
        let fail = |error: &dyn Display| cannot_write(&self.path, error);
        let Some(writer) = self.writer else { return Ok(()) };
        writer.finish().map_err(|error| fail(&error))?;
        self.temporary.as_file().sync_all().map_err(|error| fail(&error))?;
        self.temporary.persist(&self.path).map_err(|error| fail(&error.error))?;
        Ok(())
    }
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".convmae-").suffix(".tmp");
    // Temporary files are private by default; this one becomes a file like any other, so the umask decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// A file that cannot be written.
pub fn cannot_write(path: &Path, error: &dyn Display) -> CliError {
    CliError::Engine(EngineError::Usage(format!("cannot write {}: {error}", path.display())))
}
