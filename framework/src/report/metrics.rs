//! `metrics.parquet`: every figure of a run, one row each.

use std::path::Path;

use polars::prelude::*;

use super::{ReportError, parquet};

/// Whether a figure was measured while training or on held-out data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Measured on training batches.
    Train,
    /// Measured on the validation set.
    Val,
}

impl Split {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Train, Self::Val].into_iter().find(|split| split.name() == name)
    }
}

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Optimizer steps taken.
    pub step: u64,
    /// Passes over the training set, with fraction.
    pub epoch: f64,
    /// Seconds since the run started.
    pub seconds: f64,
    /// What was measured.
    pub value: f64,
}

/// The figures of a run, in columns as they stand in `metrics.parquet`: `step` (u64), `epoch` (f64), `split`
/// (`train` or `val`), `name`, `value` (f64), and `seconds` (f64, since the run started, without the time
/// between a stop and its resume).
#[derive(Debug, Clone, Default)]
pub struct MetricLog {
    step: Vec<u64>,
    epoch: Vec<f64>,
    split: Vec<Split>,
    /// Indices into `names`.
    name: Vec<usize>,
    value: Vec<f64>,
    seconds: Vec<f64>,
    /// In the order of their first appearance.
    names: Vec<String>,
}

impl MetricLog {
    /// Reads back what [`write`](Self::write) left at `path`.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        parquet::read(path, WHAT, Self::of_frame)
    }

    /// Reads back the bytes that [`write`](Self::write) has returned.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, String> {
        Self::of_frame(&parquet::decode(bytes)?)
    }

    /// Appends a row. `seconds` counts from the start of the run.
    pub fn push(&mut self, step: u64, epoch: f64, split: Split, name: &str, value: f64, seconds: f64) {
        let name = self.intern(name);
        self.step.push(step);
        self.epoch.push(epoch);
        self.split.push(split);
        self.name.push(name);
        self.value.push(value);
        self.seconds.push(seconds);
    }

    /// Writes all rows to `path`, and returns the bytes of the file.
    pub fn write(&self, path: &Path) -> Result<Vec<u8>, ReportError> {
        parquet::write(path, WHAT, self.frame())
    }

    /// Forgets what was measured after `step`: a resumed run measures it again.
    pub fn truncate_after(&mut self, step: u64) {
        let kept: Vec<usize> = (0..self.len()).filter(|&row| self.step[row] <= step).collect();
        *self = Self {
            step: pick(&self.step, &kept),
            epoch: pick(&self.epoch, &kept),
            split: pick(&self.split, &kept),
            name: pick(&self.name, &kept),
            value: pick(&self.value, &kept),
            seconds: pick(&self.seconds, &kept),
            names: std::mem::take(&mut self.names),
        };
    }

    /// The values of one name, in the order they were measured.
    pub fn series(&self, split: Split, name: &str) -> Vec<Point> {
        let Some(name) = self.names.iter().position(|known| known == name) else { return Vec::new() };
        (0..self.len())
            .filter(|&row| self.split[row] == split && self.name[row] == name)
            .map(|row| Point {
                step: self.step[row],
                epoch: self.epoch[row],
                seconds: self.seconds[row],
                value: self.value[row],
            })
            .collect()
    }

    /// The names measured on `split`, in the order of their first appearance.
    pub fn names(&self, split: Split) -> Vec<&str> {
        let mut measured = vec![false; self.names.len()];
        for (&name, &of) in self.name.iter().zip(&self.split) {
            measured[name] |= of == split;
        }
        self.names.iter().zip(measured).filter_map(|(name, is)| is.then_some(name.as_str())).collect()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.step.len()
    }

    /// Whether nothing was measured yet.
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// How many seconds the run had taken at the last row: where the clock of a resumed run goes on.
    pub fn seconds(&self) -> f64 {
        self.seconds.last().copied().unwrap_or(0.0)
    }

    fn intern(&mut self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    fn frame(&self) -> PolarsResult<DataFrame> {
        let split: Vec<&str> = self.split.iter().map(|split| split.name()).collect();
        let name: Vec<&str> = self.name.iter().map(|&name| self.names[name].as_str()).collect();
        DataFrame::new(
            self.len(),
            vec![
                Column::new("step".into(), &self.step),
                Column::new("epoch".into(), &self.epoch),
                Column::new("split".into(), &split),
                Column::new("name".into(), &name),
                Column::new("value".into(), &self.value),
                Column::new("seconds".into(), &self.seconds),
            ],
        )
    }

    fn of_frame(frame: &DataFrame) -> Result<Self, String> {
        let refuse = |error: PolarsError| error.to_string();
        let column = |name: &str| frame.column(name).map_err(refuse);
        let floats = |name: &str| -> Result<Vec<f64>, String> {
            let values = column(name)?.f64().map_err(refuse)?;
            Ok(values.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
        };
        let steps = column("step")?.u64().map_err(refuse)?;
        let splits = column("split")?.str().map_err(refuse)?;
        let names = column("name")?.str().map_err(refuse)?;
        let mut log = Self {
            epoch: floats("epoch")?,
            value: floats("value")?,
            seconds: floats("seconds")?,
            ..Self::default()
        };
        for (row, ((step, split), name)) in steps.iter().zip(splits.iter()).zip(names.iter()).enumerate() {
            let (Some(step), Some(split), Some(name)) = (step, split, name) else {
                return Err(format!("row {row} has an empty cell"));
            };
            log.split.push(
                Split::of_name(split).ok_or_else(|| {
                    format!("row {row} has the split `{split}`; known are `train` and `val`")
                })?,
            );
            log.step.push(step);
            let name = log.intern(name);
            log.name.push(name);
        }
        Ok(log)
    }
}

const WHAT: &str = "metrics file";

fn pick<T: Copy>(column: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().map(|&row| column[row]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample() -> MetricLog {
        let mut log = MetricLog::default();
        for step in 1..=4_u64 {
            let epoch = step as f64 / 2.0;
            log.push(step, epoch, Split::Train, "loss", 1.0 / step as f64, step as f64);
            if step % 2 == 0 {
                log.push(step, epoch, Split::Val, "loss", 2.0 / step as f64, step as f64 + 0.5);
            }
        }
        log
    }

    fn rows(log: &MetricLog) -> Vec<(u64, u64, Split, &str, u64)> {
        let row = |i: usize| {
            let name = log.names[log.name[i]].as_str();
            (log.step[i], log.value[i].to_bits(), log.split[i], name, log.seconds[i].to_bits())
        };
        (0..log.len()).map(row).collect()
    }

    #[test]
    fn a_log_comes_back_bit_by_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.parquet");
        let mut log = sample();
        log.push(5, 2.5, Split::Train, "lr: \"odd\" näme", f64::NAN, 9.0);
        log.write(&path).unwrap();
        assert_eq!(rows(&MetricLog::open(&path).unwrap()), rows(&log));
    }

    #[test]
    fn an_empty_log_comes_back_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.parquet");
        MetricLog::default().write(&path).unwrap();
        assert!(MetricLog::open(&path).unwrap().is_empty());
    }

    #[test]
    fn truncation_forgets_later_steps_of_every_split() {
        let mut log = sample();
        log.truncate_after(3);
        assert_eq!(log.len(), 4);
        assert_eq!(log.series(Split::Val, "loss"), [Point { step: 2, epoch: 1.0, seconds: 2.5, value: 1.0 }]);
        assert!((log.seconds() - 3.0).abs() < 1e-12);
        log.push(4, 2.0, Split::Val, "loss", 7.0, 4.0);
        assert_eq!(log.series(Split::Val, "loss").len(), 2);
    }

    #[test]
    fn series_and_names_keep_splits_apart() {
        let mut log = sample();
        log.push(4, 2.0, Split::Train, "lr", 1e-3, 5.0);
        assert_eq!(log.series(Split::Train, "loss").len(), 4);
        assert_eq!(log.names(Split::Train), ["loss", "lr"]);
        assert_eq!(log.names(Split::Val), ["loss"]);
        assert!(log.series(Split::Val, "lr").is_empty());
    }

    #[test]
    fn a_broken_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.parquet");
        for content in [&b""[..], b"not parquet", b"PAR1PAR1", b"PAR1\xff\xff\xff\xff\xff\xff\xff\x7fPAR1"] {
            std::fs::write(&path, content).unwrap();
            let message = MetricLog::open(&path).unwrap_err().to_string();
            assert!(message.contains("metrics.parquet is not a valid metrics file"), "{message}");
        }
        let whole = sample().write(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(MetricLog::open(&path).is_err());
    }

    #[test]
    fn a_foreign_parquet_is_refused_with_the_missing_column() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.parquet");
        let mut frame = DataFrame::new(1, vec![Column::new("price".into(), &[1.0])]).unwrap();
        ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame).unwrap();
        let message = MetricLog::open(&path).unwrap_err().to_string();
        assert!(message.contains("step"), "{message}");
    }
}
