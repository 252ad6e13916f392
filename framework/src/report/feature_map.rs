//! `features.parquet`: features of validation images in two dimensions, as of the last evaluation.

use std::path::Path;

use polars::prelude::*;

use super::{ReportError, parquet};
use crate::metrics::{Principal, principal_components};

const WHAT: &str = "map of features";
/// Images of a map: more cannot be told apart.
const MOST: usize = 1000;
/// Values of all of them: features of many channels are of fewer images.
const MOST_VALUES: usize = 4_000_000;

/// Features of images along their first two principal components, in columns as they stand in `features.parquet`: `step` (u64),
/// `level`, `image`, `class` (null where it is not known), `x` and `y` (f64), and the shares of the variance that these hold, `x_explained`
/// and `y_explained`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureMap {
    /// Optimizer steps taken before the evaluation.
    pub step: u64,
    /// What the features are of: `backbone.s3`.
    pub level: String,
    /// The share of the variance that lies along each axis.
    pub explained: [f64; 2],
    /// The images.
    pub points: Vec<MapPoint>,
}

/// An image on a map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapPoint {
    /// What it is called.
    pub image: String,
    /// Its class, where that is known.
    pub class: Option<String>,
    /// Where it is.
    pub at: [f64; 2],
}

impl FeatureMap {
    /// Writes all rows to `path`.
    pub fn write(&self, path: &Path) -> Result<(), ReportError> {
        parquet::write(path, WHAT, self.frame()).map(drop)
    }

    /// Reads back what [`write`](Self::write) left at `path`.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        parquet::read(path, WHAT, Self::of_frame)
    }

    /// Forgets the map at `path` if it is of an evaluation after `step`: a resumed run evaluates again.
    pub fn truncate_after(path: &Path, step: u64) -> Result<(), ReportError> {
        parquet::remove_after(path, step, |path| Ok(Self::read(path)?.step))
    }

    fn frame(&self) -> PolarsResult<DataFrame> {
        let rows = self.points.len();
        let column = |name: &str, value: &dyn Fn(&MapPoint) -> f64| {
            Column::new(name.into(), self.points.iter().map(value).collect::<Vec<f64>>())
        };
        let texts = |name: &str, text: fn(&MapPoint) -> Option<&str>| {
            Column::new(name.into(), self.points.iter().map(text).collect::<Vec<_>>())
        };
        DataFrame::new(
            rows,
            vec![
                Column::new("step".into(), vec![self.step; rows]),
                Column::new("level".into(), vec![self.level.as_str(); rows]),
                texts("image", |point| Some(&point.image)),
                texts("class", |point| point.class.as_deref()),
                column("x", &|point| point.at[0]),
                column("y", &|point| point.at[1]),
                column("x_explained", &|_| self.explained[0]),
                column("y_explained", &|_| self.explained[1]),
            ],
        )
    }

    fn of_frame(frame: &DataFrame) -> PolarsResult<Self> {
        let number = |name: &str| -> PolarsResult<Vec<f64>> {
            Ok(frame.column(name)?.f64()?.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
        };
        let text = |name: &str| -> PolarsResult<Vec<Option<String>>> {
            Ok(frame.column(name)?.str()?.iter().map(|text| text.map(str::to_owned)).collect())
        };
        let first = |values: Vec<f64>| values.first().copied().unwrap_or_default();
        let (images, classes, x, y) = (text("image")?, text("class")?, number("x")?, number("y")?);
        let points = images.into_iter().zip(classes).zip(x.into_iter().zip(y));
        Ok(Self {
            step: frame.column("step")?.u64()?.get(0).unwrap_or_default(),
            level: text("level")?.into_iter().next().flatten().unwrap_or_default(),
            explained: [first(number("x_explained")?), first(number("y_explained")?)],
            points: points
                .map(|((image, class), (x, y))| MapPoint {
                    image: image.unwrap_or_default(),
                    class,
                    at: [x, y],
                })
                .collect(),
        })
    }
}

/// Collects the features of a map: of images spread over a number of them.
#[derive(Debug)]
pub struct MapCollector {
    /// How many there will be.
    expected: usize,
    seen: usize,
    features: Vec<f32>,
    images: Vec<(String, Option<String>)>,
}

impl MapCollector {
    /// For so many images.
    pub fn new(images: usize) -> Self {
        Self { expected: images, seen: 0, features: Vec::new(), images: Vec::new() }
    }

    /// Takes the feature of the next image, if it is to be on the map; all have as many channels.
    pub fn add(&mut self, feature: &[f32], image: impl FnOnce() -> (String, Option<String>)) {
        let most = (MOST_VALUES / feature.len().max(1)).clamp(1, MOST);
        if self.seen.is_multiple_of(self.expected.div_ceil(most).max(1)) {
            self.features.extend(feature);
            self.images.push(image());
        }
        self.seen += 1;
    }

    /// The map.
    pub fn finish(self, level: &str) -> FeatureMap {
        let channels = self.features.len() / self.images.len().max(1);
        let Principal { points, explained } = principal_components(&self.features, channels);
        let point = |((image, class), at)| MapPoint { image, class, at };
        let points = self.images.into_iter().zip(points).map(point).collect();
        FeatureMap { step: 0, level: level.to_owned(), explained, points }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn map(images: usize) -> FeatureMap {
        let mut collector = MapCollector::new(images);
        for image in 0..images {
            let class = (image % 2 == 0).then(|| "even".to_owned());
            collector.add(&[image as f32, 0.5], || (image.to_string(), class));
        }
        FeatureMap { step: 7, ..collector.finish("backbone.s3") }
    }

    #[test]
    fn a_map_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.parquet");
        map(5).write(&path).unwrap();
        assert_eq!(FeatureMap::read(&path).unwrap(), map(5));
        FeatureMap::truncate_after(&path, 7).unwrap();
        assert!(path.is_file());
        FeatureMap::truncate_after(&path, 6).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "not parquet").unwrap();
        let message = FeatureMap::read(&path).unwrap_err().to_string();
        assert!(message.contains("features.parquet is not a valid map of features"), "{message}");
    }

    #[test]
    fn images_of_a_map_are_spread_over_all() {
        let map = map(2500);
        assert_eq!((map.points.len(), map.points[1].image.as_str()), (834, "3"));
        assert_eq!(map.points[833].image, "2499");
    }
}
