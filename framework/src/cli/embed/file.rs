//! Files of features.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use polars::prelude::*;

use crate::cli::output::CliError;
use crate::cli::table_file::{TableFile, cannot_write};
use crate::engine::Embedding;
use crate::weights::{HostTensor, TensorMap, atomic, write_safetensors};

/// Rows of a Parquet file that are written together.
const ROWS: usize = 1024;

/// A file of features, of a format that its name tells.
pub struct FeatureFile {
    path: PathBuf,
    format: Format,
    images: Vec<String>,
    /// Of the images that are not written yet.
    values: Vec<f32>,
    /// Tokens of an image, their channels, and the level that they are of.
    tokens: usize,
    channels: usize,
    level: String,
    written: usize,
}

enum Format {
    Npy,
    Safetensors,
    Parquet(TableFile),
}

impl FeatureFile {
    /// The file at a path, where nothing is yet.
    ///
    /// # Errors
    /// If its name tells no format, or there can be no file.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Format::Npy,
            Some("safetensors") => Format::Safetensors,
            Some("parquet") => Format::Parquet(TableFile::create(path)?),
            _ => {
                return Err(CliError::Usage {
                    message: format!("{}: which format?", path.display()),
                    help: Some("name a `.parquet`, a `.npy` or a `.safetensors`".to_owned()),
                });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            images: Vec::new(),
            values: Vec::new(),
            tokens: 1,
            channels: 0,
            level: String::new(),
            written: 0,
        })
    }

    /// Takes the features of an image.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, embedding: Embedding) -> Result<(), CliError> {
        let Embedding { image, values, tokens, level } = embedding;
        (self.tokens, self.channels, self.level) = (tokens, values.len() / tokens.max(1), level);
        self.images.push(image.display().to_string());
        self.values.extend(values);
        if matches!(self.format, Format::Parquet(_)) && self.images.len() * tokens >= ROWS {
            self.write_rows()?;
        }
        Ok(())
    }

    /// Completes the file, and tells what is in it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<String, CliError> {
        let channels = self.channels;
        let shape = match self.tokens {
            1 => vec![self.images.len(), channels],
            tokens => vec![self.images.len(), tokens, channels],
        };
        match &self.format {
            Format::Npy => self.write_npy(&shape)?,
            Format::Safetensors => self.write_tensor(shape)?,
            Format::Parquet(_) => {
                self.write_rows()?;
                if let Format::Parquet(table) = self.format {
                    table.finish()?;
                }
                return Ok(format!("{} images, {channels} channels of `{}`", self.written, self.level));
            }
        }
        Ok(format!("{} images, {channels} channels of `{}`", self.images.len(), self.level))
    }

    /// `NumPy`'s format 1.0: a header as a Python literal, padded to 64 bytes, and the values.
    fn write_npy(&self, shape: &[usize]) -> Result<(), CliError> {
        let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
        let start = b"\x93NUMPY\x01\x00";
        let rest = 64 - (start.len() + 2 + header.len() + 1) % 64;
        header.push_str(&" ".repeat(rest % 64));
        header.push('\n');
        atomic::write(&self.path, |file| {
            file.write_all(start)?;
            file.write_all(&(header.len() as u16).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            self.values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
        })
        .map_err(|error| cannot_write(&self.path, &error))?;
        let names = self.path.with_extension("txt");
        atomic::write(&names, |file| self.images.iter().try_for_each(|image| writeln!(file, "{image}")))
            .map_err(|error| cannot_write(&names, &error))
    }

    fn write_tensor(&self, shape: Vec<usize>) -> Result<(), CliError> {
        let tensor =
            HostTensor::from_f32(shape, &self.values).map_err(|error| cannot_write(&self.path, &error))?;
        let mut tensors = TensorMap::new();
        tensors.insert("features", tensor);
        let metadata = BTreeMap::from([
            ("images".to_owned(), serde_json::json!(self.images).to_string()),
            ("level".to_owned(), self.level.clone()),
        ]);
        write_safetensors(&self.path, &tensors, &metadata).map_err(|error| cannot_write(&self.path, &error))
    }

    /// A row an image, or a token if there are several, with its number.
    fn write_rows(&mut self) -> Result<(), CliError> {
        let (tokens, channels) = (self.tokens, self.channels);
        if self.images.is_empty() {
            return Ok(());
        }
        let rows = self.images.len() * tokens;
        let images: Vec<&str> =
            self.images.iter().flat_map(|image| std::iter::repeat_n(image.as_str(), tokens)).collect();
        let mut columns = vec![Column::new("image".into(), &images)];
        if tokens > 1 {
            let numbers: Vec<u32> = (0..rows).map(|row| (row % tokens) as u32).collect();
            columns.push(Column::new("token".into(), &numbers));
        }
        let vectors: Vec<Series> =
            self.values.chunks_exact(channels).map(|vector| Series::new("".into(), vector)).collect();
        columns.push(Column::new("features".into(), &vectors));
        let frame = DataFrame::new(rows, columns).map_err(|error| cannot_write(&self.path, &error))?;
        if let Format::Parquet(table) = &mut self.format {
            table.write(&frame)?;
        }
        self.written += self.images.len();
        self.images.clear();
        self.values.clear();
        Ok(())
    }
}
