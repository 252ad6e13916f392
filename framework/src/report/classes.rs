//! `classes.parquet`: what the last evaluation found out about every class.

use std::path::Path;

use polars::prelude::*;

use super::{ReportError, parquet};
use crate::component::ClassFigures;

const WHAT: &str = "file of classes";

/// Figures and curves by class, in columns as they stand in `classes.parquet`: `step` (u64), `class`, `name` of the figure or of the
/// curve, `recall` (f64, in percent; null for a figure), and `value` (f64).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassTable {
    /// Optimizer steps taken before the evaluation.
    pub step: u64,
    /// The classes, in their order.
    pub classes: Vec<ClassFigures>,
}

impl ClassTable {
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
        let mut rows: Vec<(&str, &str, Option<f64>, f64)> = Vec::new();
        for of in &self.classes {
            rows.extend(
                of.figures.iter().map(|(name, value)| (of.class.as_str(), name.as_str(), None, *value)),
            );
            for (name, values) in &of.curves {
                let last = values.len().saturating_sub(1).max(1) as f64;
                let row = |(at, &value): (usize, &f64)| {
                    (of.class.as_str(), name.as_str(), Some(100.0 * at as f64 / last), value)
                };
                rows.extend(values.iter().enumerate().map(row));
            }
        }
        let classes: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let names: Vec<&str> = rows.iter().map(|row| row.1).collect();
        let recalls: Vec<Option<f64>> = rows.iter().map(|row| row.2).collect();
        let values: Vec<f64> = rows.iter().map(|row| row.3).collect();
        DataFrame::new(
            rows.len(),
            vec![
                Column::new("step".into(), vec![self.step; rows.len()]),
                Column::new("class".into(), &classes),
                Column::new("name".into(), &names),
                Column::new("recall".into(), &recalls),
                Column::new("value".into(), &values),
            ],
        )
    }

    fn of_frame(frame: &DataFrame) -> PolarsResult<Self> {
        let text = |name: &str| -> PolarsResult<Vec<String>> {
            Ok(frame.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
        };
        let (classes, names) = (text("class")?, text("name")?);
        let recalls = frame.column("recall")?.f64()?;
        let values = frame.column("value")?.f64()?;
        let mut table =
            Self { step: frame.column("step")?.u64()?.get(0).unwrap_or_default(), classes: Vec::new() };
        for (((class, name), recall), value) in
            classes.into_iter().zip(names).zip(recalls.iter()).zip(values.iter())
        {
            let value = value.unwrap_or(f64::NAN);
            if table.classes.last().is_none_or(|last| last.class != class) {
                table.classes.push(ClassFigures { class, figures: Vec::new(), curves: Vec::new() });
            }
            let Some(last) = table.classes.last_mut() else { continue };
            match (recall, last.curves.last_mut()) {
                (None, _) => last.figures.push((name, value)),
                (Some(_), Some((known, curve))) if *known == name => curve.push(value),
                (Some(_), _) => last.curves.push((name, vec![value])),
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was() {
        let of = |class: &str, ap: f64| ClassFigures {
            class: class.to_owned(),
            figures: vec![("box_ap".to_owned(), ap)],
            curves: vec![("box_ap50".to_owned(), vec![100.0, ap, 0.0]), ("box_ap75".to_owned(), vec![ap; 3])],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.parquet");
        let table = ClassTable { step: 12, classes: vec![of("cat", 50.5), of("dog", 0.1)] };
        table.write(&path).unwrap();
        assert_eq!(ClassTable::read(&path).unwrap(), table);
        let frame = ParquetReader::new(std::fs::File::open(&path).unwrap()).finish().unwrap();
        let recalls: Vec<_> = frame.column("recall").unwrap().f64().unwrap().iter().take(4).collect();
        assert_eq!(recalls, [None, Some(0.0), Some(50.0), Some(100.0)]);
        ClassTable::truncate_after(&path, 12).unwrap();
        assert!(path.is_file());
        ClassTable::truncate_after(&path, 11).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("classes.parquet");
        std::fs::write(&path, "not parquet").unwrap();
        let message = ClassTable::read(&path).unwrap_err().to_string();
        assert!(message.contains("classes.parquet is not a valid file of classes"), "{message}");
    }
}
