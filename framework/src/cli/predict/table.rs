//! Predictions as a table, written as they come: CSV or Parquet with a row a class, or JSON an image.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use polars::prelude::*;

use crate::cli::output::CliError;
use crate::cli::table_file::{TableFile, cannot_write};
use crate::engine::Prediction;
use crate::runs::csv_row;
use crate::weights::atomic::Pending;

/// Rows of a Parquet file that are written together.
const ROWS: usize = 8192;

/// A table in the making.
pub struct Table {
    path: PathBuf,
    file: Destination,
    /// What the rows are of, once there is one.
    kind: Option<Kind>,
    is_empty: bool,
}

enum Destination {
    Csv(File),
    Lines(File),
    /// A list, whole or not there at all.
    Json(Pending, File),
    Parquet(TableFile, Vec<Row>),
}

/// What the rows of a table are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classes,
    Pixels,
    Objects,
}

struct Row {
    image: String,
    class: String,
    figure: f64,
    bbox: Option<[f32; 4]>,
}

impl Table {
    /// Whether a name is that of a table, and not of a folder.
    pub fn is_named(path: &Path) -> bool {
        matches!(extension(path), Some("csv" | "json" | "jsonl" | "ndjson" | "parquet"))
    }

    /// The table at a path with such a name.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let plain = || File::create(path).map_err(|error| cannot_write(path, &error));
        let file = match extension(path) {
            Some("csv") => Destination::Csv(plain()?),
            Some("json") => {
                let pending = Pending::create(path).map_err(|error| cannot_write(path, &error))?;
                let file = pending.file().map_err(|error| cannot_write(path, &error))?;
                Destination::Json(pending, file)
            }
            Some("parquet") => Destination::Parquet(TableFile::create(path)?, Vec::new()),
            _ => Destination::Lines(plain()?),
        };
        Ok(Self { path: path.to_owned(), file, kind: None, is_empty: true })
    }

    /// Writes the rows of a prediction.
    ///
    /// # Errors
    /// If they cannot be written, or nothing is predicted that a table could hold.
    pub fn add(&mut self, prediction: &Prediction) -> Result<(), CliError> {
        let fail = |error: std::io::Error| cannot_write(&self.path, &error);
        let is_first = std::mem::replace(&mut self.is_empty, false);
        let line = || serde_json::to_string(prediction).unwrap_or_default();
        match &mut self.file {
            Destination::Lines(file) => return writeln!(file, "{}", line()).map_err(fail),
            Destination::Json(_, file) => {
                let before = if is_first { "[\n" } else { ",\n" };
                return write!(file, "{before}{}", line()).map_err(fail);
            }
            Destination::Csv(_) | Destination::Parquet(..) => {}
        }
        let is_new = self.kind.is_none();
        let kind = match self.kind {
            Some(kind) => kind,
            None => *self.kind.insert(Kind::of(prediction)?),
        };
        let rows = kind.rows(prediction);
        match &mut self.file {
            Destination::Csv(file) => {
                let mut text = if is_new { csv_row(kind.columns()) } else { String::new() };
                text.extend(rows.iter().map(|row| csv_row(row.cells())));
                file.write_all(text.as_bytes()).map_err(fail)
            }
            Destination::Parquet(file, waiting) => {
                waiting.extend(rows);
                if waiting.len() < ROWS { Ok(()) } else { kind.write(file, waiting, &self.path) }
            }
            Destination::Lines(_) | Destination::Json(..) => Ok(()),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(), CliError> {
        let fail = |error: &dyn std::fmt::Display| cannot_write(&self.path, error);
        match (self.file, self.kind) {
            (Destination::Parquet(mut file, mut waiting), Some(kind)) => {
                kind.write(&mut file, &mut waiting, &self.path)?;
                file.finish()
            }
            (Destination::Json(pending, mut file), _) => {
                let end = if self.is_empty { "[]\n" } else { "\n]\n" };
                file.write_all(end.as_bytes()).map_err(|error| fail(&error))?;
                pending.commit().map_err(|error| fail(&error))
            }
            _ => Ok(()),
        }
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

impl Kind {
    fn of(prediction: &Prediction) -> Result<Self, CliError> {
        if prediction.objects.is_some() {
            Ok(Self::Objects)
        } else if prediction.labels.is_some() {
            Ok(Self::Pixels)
        } else if !prediction.classes.is_empty() {
            Ok(Self::Classes)
        } else {
            Err(CliError::Usage {
                message: "no head of the model predicts anything that a table could hold".to_owned(),
                help: Some("`convmae embed` writes the features of images".to_owned()),
            })
        }
    }

    /// The names of the columns.
    fn columns(self) -> Vec<&'static str> {
        match self {
            Self::Classes => vec!["image", "class", "probability"],
            Self::Pixels => vec!["image", "class", "share"],
            Self::Objects => vec!["image", "class", "score", "left", "top", "right", "bottom"],
        }
    }

    fn rows(self, prediction: &Prediction) -> Vec<Row> {
        let row = |class: String, figure: f64, bbox| Row {
            image: prediction.image.display().to_string(),
            class,
            figure,
            bbox,
        };
        match self {
            Self::Classes => {
                prediction.classes.iter().map(|of| row(of.label(), of.probability, None)).collect()
            }
            Self::Pixels => {
                prediction.pixel_classes.iter().map(|of| row(of.label(), of.share, None)).collect()
            }
            Self::Objects => {
                let objects = prediction.objects.iter().flatten();
                let score = |score: Option<f32>| score.map_or(f64::NAN, f64::from);
                objects.map(|of| row(of.class_label(), score(of.score), Some(of.bbox))).collect()
            }
        }
    }

    /// Writes the rows that wait.
    fn write(self, file: &mut TableFile, waiting: &mut Vec<Row>, path: &Path) -> Result<(), CliError> {
        let names = self.columns();
        let column = |name: &str, cell: &dyn Fn(&Row) -> f64| {
            Column::new(name.into(), waiting.iter().map(cell).collect::<Vec<_>>())
        };
        let text = |name: &str, cell: fn(&Row) -> &str| {
            Column::new(name.into(), waiting.iter().map(cell).collect::<Vec<_>>())
        };
        let mut columns = vec![
            text(names[0], |row| &row.image),
            text(names[1], |row| &row.class),
            column(names[2], &|row| row.figure),
        ];
        columns.extend(names[3..].iter().enumerate().map(|(side, name)| {
            column(name, &|row: &Row| row.bbox.map_or(f64::NAN, |bbox| f64::from(bbox[side])))
        }));
        let frame = DataFrame::new(waiting.len(), columns).map_err(|error| cannot_write(path, &error))?;
        file.write(&frame)?;
        waiting.clear();
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let sides = self.bbox.iter().flatten().map(ToString::to_string);
        [self.image.clone(), self.class.clone(), self.figure.to_string()].into_iter().chain(sides).collect()
    }
}
