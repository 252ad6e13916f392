//! One Parquet file with images.

use std::fs::File;
use std::path::{Path, PathBuf};

use convmae_framework::data::{DataError, composed};
use convmae_framework::guard::guarded;
use polars::prelude::*;
use serde_json::Value;

use super::invalid;
use crate::datasets::some_names;

/// A file: its rows without the images.
pub(super) struct Shard {
    pub path: PathBuf,
    /// Rows of each group.
    pub groups: Vec<usize>,
    /// The class of every row, where it has one; empty if they are not wanted.
    pub labels: Vec<Option<u32>>,
    /// The names of the classes, where the file states them.
    pub classes: Option<Vec<String>>,
}

/// The images of a group of rows.
pub(super) struct Images(BinaryChunked);

impl Images {
    /// The bytes of an image file.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.0.get(row)
    }
}

impl Shard {
    /// Opens a file with a column of images, and one of classes if these are wanted.
    ///
    /// # Errors
    /// If the file cannot be read, or has no such columns.
    pub fn open(path: &Path, image: &str, label: Option<&str>) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        let opened = caught(|| {
            let mut reader = ParquetReader::new(file);
            let schema = reader.schema().map_err(unreadable)?;
            let names: Vec<String> = schema.iter_names().map(ToString::to_string).collect();
            for (key, column) in [("image", Some(image)), ("label", label)] {
                if let Some(column) = column.filter(|column| !names.iter().any(|name| name == column)) {
                    let there = some_names(names.clone());
                    return Err(format!("no column `{column}` (`{key}`); its columns are {there}"));
                }
            }
            let metadata = reader.get_metadata().map_err(unreadable)?;
            // `polars` does not name the type of a group.
            #[allow(clippy::redundant_closure_for_method_calls)]
            let groups = metadata.row_groups.iter().map(|group| group.num_rows()).collect();
            let stated = metadata.key_value_metadata().iter().flatten();
            let about =
                stated.into_iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.clone());
            let classes = label.and_then(|label| class_names(about?.as_ref(), label));
            let labels = label.map(|label| read_labels(reader, label)).transpose()?.unwrap_or_default();
            Ok(Self { path: path.to_owned(), groups, labels, classes })
        });
        let shard = opened.map_err(|reason| invalid(path, reason))?;
        if shard.groups.iter().any(|&rows| rows > 0) {
            shard.read(image, 0, 1).map_err(|reason| invalid(path, reason))?;
        }
        Ok(shard)
    }

    /// The images of some rows, which are best a group.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn read(&self, column: &str, first: usize, rows: usize) -> Result<Images, String> {
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        caught(|| {
            let reader = ParquetReader::new(file).with_slice(Some((first, rows)));
            let images = read_column(reader, column)?;
            let bytes = match images.dtype() {
                DataType::Struct(_) => {
                    let fields = images.struct_().and_then(|fields| fields.field_by_name("bytes"));
                    fields.map_err(|_| format!("`{column}` has no field `bytes`"))?
                }
                _ => images.as_materialized_series().clone(),
            };
            let bytes = bytes
                .binary()
                .map_err(|_| format!("`{column}` holds {}, not the bytes of image files", images.dtype()))?;
            Ok(Images(bytes.clone()))
        })
    }
}

fn read_labels(reader: ParquetReader<File>, column: &str) -> Result<Vec<Option<u32>>, String> {
    let labels = read_column(reader, column)?;
    if !labels.dtype().is_integer() {
        return Err(format!("`{column}` holds {}, not indices of classes", labels.dtype()));
    }
    let indices = labels.cast(&DataType::Int64).map_err(unreadable)?;
    let indices = indices.i64().map_err(unreadable)?;
    // Test sets of benchmarks have -1.
    Ok(indices.iter().map(|class| class.and_then(|class| u32::try_from(class).ok())).collect())
}

fn read_column(reader: ParquetReader<File>, column: &str) -> Result<Column, String> {
    // On this thread, where a panic is caught.
    let reader = reader.read_parallel(ParallelStrategy::None).with_columns(Some(vec![column.to_owned()]));
    let frame = reader.finish().map_err(unreadable)?;
    frame.column(column).cloned().map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn unreadable(error: PolarsError) -> String {
    format!("not a readable Parquet file: {error}")
}

/// What a reader of Parquet makes of a file, which panics on some that are damaged.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    guarded(read).unwrap_or_else(|_| Err("damaged: the reader of Parquet panicked".to_owned()))
}

/// The names of the classes in what `datasets` writes of its features:
/// `{"info": {"features": {"label": {"names": [..], "_type": "ClassLabel"}}}}`.
fn class_names(about: &str, label: &str) -> Option<Vec<String>> {
    let about: Value = serde_json::from_str(about).ok()?;
    let names = about.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(composed)).collect()
}
