//! What the data of a split are: said at every start, by `check --data`, and in part in `summary.json`.

use std::fmt;

use serde::Serialize;

use super::classes::listing;
use crate::component::{Samples, TaskKind};
use crate::data::{IGNORED, PassedOver};
use crate::graph::Heads;

/// What the data of a split are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SplitReport {
    /// `train` or `val`.
    pub split: &'static str,
    /// Number of samples.
    pub samples: usize,
    /// The classes that the heads of the model tell apart, with their samples where these are known.
    pub classes: Vec<String>,
    /// Files that are no samples.
    pub passed_over: PassedOver,
    /// What looks wrong.
    pub warnings: Vec<String>,
}

impl SplitReport {
    /// Looks at opened data, for the heads of a model; of label maps at a few.
    pub fn new(split: &'static str, samples: &dyn Samples, heads: &Heads<'_>) -> Self {
        let tasks = [TaskKind::Classify, TaskKind::Segment, TaskKind::Detect];
        let tasks = tasks.into_iter().filter(|&task| !heads.classes(task).is_empty());
        let classes: Vec<_> = tasks.flat_map(|task| listing(samples, task)).collect();
        let mut warnings = samples.warnings();
        if let ([class], true) = (&classes[..], heads.classes(TaskKind::Detect).is_empty()) {
            warnings.push(format!(
                "a single class, {class}: there is nothing to tell apart, the loss is 0 whatever the model does"
            ));
        }
        if !heads.classes(TaskKind::Segment).is_empty() {
            warnings.extend(warning_of_labels(samples));
        }
        Self { split, samples: samples.len(), classes, passed_over: samples.passed_over(), warnings }
    }

    /// Logs what was passed over and what looks wrong.
    pub fn log(&self) {
        if !self.passed_over.is_empty() {
            tracing::info!("data.{}: passed over {}", self.split, self.passed_over);
        }
        for warning in &self.warnings {
            tracing::warn!("data.{}: {warning}", self.split);
        }
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { split, samples, classes, passed_over, warnings } = self;
        write!(f, "data.{split}: {samples} samples")?;
        if !classes.is_empty() {
            write!(f, "; classes: {}", super::classes::shortened(classes))?;
        }
        if !passed_over.is_empty() {
            write!(f, "\ndata.{split}: passed over {passed_over}")?;
        }
        warnings.iter().try_for_each(|warning| write!(f, "\ndata.{split}: warning: {warning}"))
    }
}

/// Label maps that are looked at before they are used.
const LOOKED_AT: usize = 32;

/// Whether the values of label maps, spread over the data, look like no classes.
fn warning_of_labels(samples: &dyn Samples) -> Option<String> {
    let count = samples.len().min(LOOKED_AT);
    let indices = (0..count).map(|at| at * samples.len() / count);
    // What cannot be read is reported when it is used.
    let maps = indices.filter_map(|index| samples.get(index).ok()?.target.semantic);
    let (mut looked_at, mut areas) = (0, [0_u64; 256]);
    for map in maps {
        looked_at += 1;
        map.as_raw().iter().for_each(|&label| areas[usize::from(label)] += 1);
    }
    let (classes, ignored) = (&areas[..usize::from(IGNORED)], areas[usize::from(IGNORED)]);
    let mut present = classes.iter().enumerate().filter(|(_, area)| **area > 0).map(|(class, _)| class);
    match (present.next(), present.next()) {
        _ if ignored == 0 => None,
        (None, _) => Some(format!(
            "all pixels of the {looked_at} label maps looked at are ignored (255): nothing of them is trained on or \
             measured"
        )),
        (Some(class), None) => {
            let names = samples.classes(TaskKind::Segment).unwrap_or_default();
            let name = names.get(class).map(|name| format!(" (`{name}`)")).unwrap_or_default();
            Some(format!(
                "all labelled pixels of the {looked_at} label maps looked at are of class {class}{name}, the others are \
                 ignored (255); if 255 is a class, too, say so: `values: [0, 255]` of `SegmentationFolder`"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, RgbImage};

    use super::*;
    use crate::data::{DataError, Sample, Target};

    /// Samples with label maps of two pixels.
    struct Maps(Vec<[u8; 2]>);

    impl Samples for Maps {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let semantic = GrayImage::from_raw(2, 1, self.0[index].to_vec());
            let target = Target { semantic, ..Target::default() };
            Ok(Sample::new(index.to_string(), RgbImage::new(2, 1), target))
        }
    }

    fn warning(maps: &[[u8; 2]]) -> String {
        warning_of_labels(&Maps(maps.to_vec())).unwrap_or_default()
    }

    #[test]
    fn one_class_beside_ignored_pixels_is_odd() {
        let expected =
            "all labelled pixels of the 2 label maps looked at are of class 0, the others are ignored";
        assert!(warning(&[[0, 255], [255, 0]]).starts_with(expected));
        assert_eq!(warning(&[[0, 255], [255, 1]]), "");
        assert_eq!(warning(&[[0, 0], [0, 0]]), "", "a background without objects is not rare");
    }

    #[test]
    fn ignored_pixels_alone_are_odd() {
        assert!(warning(&[[255, 255]]).starts_with("all pixels of the 1 label maps looked at are ignored"));
        assert_eq!(warning(&[]), "");
    }

    #[test]
    fn the_maps_looked_at_are_spread_over_the_data() {
        let mut maps = vec![[0, 255]; 1000];
        assert!(warning(&maps).contains("of the 32 label maps"));
        maps[968] = [1, 1];
        assert_eq!(warning(&maps), "");
    }
}
