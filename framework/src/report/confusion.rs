//! `confusion.parquet`: which classes of images the last evaluation took for which.

use std::path::Path;

use polars::prelude::*;

use super::{ReportError, parquet};
use crate::component::Confusion;

const WHAT: &str = "confusion matrix";

/// Images by class and predicted class, in columns as they stand in `confusion.parquet`: `step` (u64), `class` and `predicted` (u64, the
/// latter null where no class was predicted), their names `class_name` and `predicted_name` (null where they are not known), and `images`
/// (u64). Pairs that never occurred are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfusionTable {
    /// Optimizer steps taken before the evaluation.
    pub step: u64,
    /// What was taken for what.
    pub confusion: Confusion,
}

impl ConfusionTable {
    /// Writes all rows to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        parquet::write(path, WHAT, self.frame()).map(drop)
    }

    /// Reads back what [`write`](Self::write) left at `path`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        parquet::read(path, WHAT, Self::of_frame)
    }

    /// Forgets the table at `path` if it is of an evaluation after `step`: a resumed run evaluates again.
    pub fn truncate_after(path: &Path, step: u64) -> Result<(), ReportError> {
        parquet::remove_after(path, step, |path| Ok(Self::read(path)?.step))
    }

    fn frame(&self) -> PolarsResult<DataFrame> {
        let Confusion { names, counts } = &self.confusion;
        let name = |class: Option<usize>| class.and_then(|class| names.get(&class)).map(String::as_str);
        let (classes, predicted): (Vec<usize>, Vec<Option<usize>>) = counts.keys().copied().unzip();
        let index = |class: usize| class as u64;
        DataFrame::new(
            counts.len(),
            vec![
                Column::new("step".into(), vec![self.step; counts.len()]),
                Column::new("class".into(), classes.iter().copied().map(index).collect::<Vec<u64>>()),
                Column::new(
                    "class_name".into(),
                    classes.iter().map(|class| name(Some(*class))).collect::<Vec<_>>(),
                ),
                Column::new(
                    "predicted".into(),
                    predicted.iter().map(|class| class.map(index)).collect::<Vec<_>>(),
                ),
                Column::new(
                    "predicted_name".into(),
                    predicted.iter().map(|class| name(*class)).collect::<Vec<_>>(),
                ),
                Column::new("images".into(), counts.values().copied().collect::<Vec<u64>>()),
            ],
        )
    }

    fn of_frame(frame: &DataFrame) -> PolarsResult<Self> {
        let numbers = |name: &str| -> PolarsResult<Vec<Option<u64>>> {
            Ok(frame.column(name)?.u64()?.iter().collect())
        };
        let names = |name: &str| -> PolarsResult<Vec<Option<String>>> {
            Ok(frame.column(name)?.str()?.iter().map(|text| text.map(str::to_owned)).collect())
        };
        let mut table = Self {
            step: numbers("step")?.first().copied().flatten().unwrap_or_default(),
            confusion: Confusion::default(),
        };
        let classes = numbers("class")?.into_iter().zip(names("class_name")?);
        let predicted = numbers("predicted")?.into_iter().zip(names("predicted_name")?);
        for (((class, class_name), (predicted, predicted_name)), images) in
            classes.zip(predicted).zip(numbers("images")?)
        {
            let class = class.unwrap_or_default() as usize;
            let predicted = predicted.map(|class| class as usize);
            for (class, name) in [(Some(class), class_name), (predicted, predicted_name)] {
                table.confusion.names.extend(class.zip(name));
            }
            table.confusion.counts.insert((class, predicted), images.unwrap_or_default());
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was_and_is_cut_when_a_run_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.parquet");
        let mut confusion = Confusion::new(&["cat".to_owned(), "dog".to_owned()]);
        for (class, predicted) in [(0, Some(0)), (0, Some(1)), (0, Some(1)), (1, None), (7, Some(0))] {
            confusion.add(class, predicted);
        }
        let table = ConfusionTable { step: 12, confusion };
        table.write(&path).unwrap();
        assert_eq!(ConfusionTable::read(&path).unwrap(), table);
        ConfusionTable::truncate_after(&path, 12).unwrap();
        assert!(path.is_file());
        ConfusionTable::truncate_after(&path, 11).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confusion.parquet");
        std::fs::write(&path, "not parquet").unwrap();
        let message = ConfusionTable::read(&path).unwrap_err().to_string();
        assert!(message.contains("confusion.parquet is not a valid confusion matrix"), "{message}");
    }
}
