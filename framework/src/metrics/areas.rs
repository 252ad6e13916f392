//! Areas of classes in label maps, and the figures made of them.

use serde::{Deserialize, Serialize};

use crate::data::IGNORED;

/// How many pixels each class has in predictions, in label maps and in both, over any number of images
/// (`eval_metrics` of mmsegmentation 0.11). Pixels with the label [`IGNORED`] are left out of everything.
///
/// A label that is no class is in no class' label area, as in mmsegmentation 1: version 0.11 counts that of
/// one past the last class as the last one's (the closed last bin of `numpy.histogram`), which no label map
/// of ADE20K has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionAreas {
    intersection: Vec<u64>,
    prediction: Vec<u64>,
    label: Vec<u64>,
}

impl ConfusionAreas {
    /// Empty areas of a number of classes.
    pub fn new(classes: usize) -> Self {
        let empty = vec![0; classes];
        Self { intersection: empty.clone(), prediction: empty.clone(), label: empty }
    }

    /// Takes the predicted and the true class of every pixel, in the same order.
    pub fn add(&mut self, prediction: &[u8], label: &[u8]) {
        let counted = prediction.iter().zip(label).filter(|(_, label)| **label != IGNORED);
        for (&predicted, &label) in counted {
            count(&mut self.prediction, predicted);
            count(&mut self.label, label);
            if predicted == label {
                count(&mut self.intersection, label);
            }
        }
    }

    /// Takes the areas of other images, of as many classes.
    pub fn merge(&mut self, other: &Self) {
        let arrays = [
            (&mut self.intersection, &other.intersection),
            (&mut self.prediction, &other.prediction),
            (&mut self.label, &other.label),
        ];
        for (areas, others) in arrays {
            areas.iter_mut().zip(others).for_each(|(area, other)| *area += other);
        }
    }

    /// Pixels that are of a class and were predicted to be, by class.
    pub fn intersection(&self) -> &[u64] {
        &self.intersection
    }

    /// Pixels that were predicted to be of a class, by class.
    pub fn prediction(&self) -> &[u64] {
        &self.prediction
    }

    /// Pixels that are of a class, by class.
    pub fn label(&self) -> &[u64] {
        &self.label
    }

    /// Pixels that are of a class or were predicted to be, by class.
    pub fn union(&self) -> Vec<u64> {
        let both = self.prediction.iter().zip(&self.label).zip(&self.intersection);
        both.map(|((prediction, label), intersection)| prediction + label - intersection).collect()
    }

    /// Intersection over union by class; none for a class that is neither predicted nor there.
    pub fn iou(&self) -> Vec<Option<f64>> {
        ratios(&self.intersection, &self.union())
    }

    /// The share of a class' pixels that were found, by class; none for a class that is not there.
    pub fn accuracy(&self) -> Vec<Option<f64>> {
        ratios(&self.intersection, &self.label)
    }

    /// Mean of [`Self::iou`] over the classes that have one (mIoU).
    pub fn mean_iou(&self) -> Option<f64> {
        mean(&self.iou())
    }

    /// Mean of [`Self::accuracy`] over the classes that have one (mAcc).
    pub fn mean_accuracy(&self) -> Option<f64> {
        mean(&self.accuracy())
    }

    /// The share of all pixels whose class was found (aAcc); none before the first pixel that counts.
    pub fn pixel_accuracy(&self) -> Option<f64> {
        ratio(self.intersection.iter().sum(), self.label.iter().sum())
    }
}

fn count(areas: &mut [u64], class: u8) {
    if let Some(area) = areas.get_mut(usize::from(class)) {
        *area += 1;
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn ratios(parts: &[u64], wholes: &[u64]) -> Vec<Option<f64>> {
    parts.iter().zip(wholes).map(|(&part, &whole)| ratio(part, whole)).collect()
}

fn mean(ratios: &[Option<f64>]) -> Option<f64> {
    let count = ratios.iter().flatten().count();
    (count > 0).then(|| ratios.iter().flatten().sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::weights;

    const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation");

    /// `LoadAnnotations(reduce_zero_label=True)`: class 0 is ignored, the others move down.
    fn reduce_zero_label(label: u8) -> u8 {
        match label {
            0 | 255 => 255,
            label => label - 1,
        }
    }

    /// Every case of the official metrics with the areas of its images.
    fn golden() -> Vec<(Value, ConfusionAreas)> {
        let json = std::fs::read(format!("{DIR}/metrics.json")).unwrap();
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        let maps = weights::read(&Path::new(DIR).join("metrics.safetensors")).unwrap().tensors;
        let Value::Array(cases) = json["cases"].take() else { panic!("no cases") };
        let measure = |case: Value| {
            let mut areas = ConfusionAreas::new(case["num_classes"].as_u64().unwrap() as usize);
            for image in 0..case["images"].as_u64().unwrap() {
                let map = |kind| {
                    let name = format!("{}.{kind}{image}", case["name"].as_str().unwrap());
                    maps.get(&name).unwrap().data.clone()
                };
                let mut label: Vec<u8> = map("gt");
                if case["reduce_zero_label"] == true {
                    label.iter_mut().for_each(|label| *label = reduce_zero_label(*label));
                }
                areas.add(&map("pred"), &label);
            }
            (case, areas)
        };
        cases.into_iter().map(measure).collect()
    }

    fn areas(values: &Value) -> Vec<u64> {
        values.as_array().unwrap().iter().map(|area| area.as_f64().unwrap() as u64).collect()
    }

    fn is_close(found: Option<f64>, expected: &Value) -> bool {
        match (found, expected.as_f64()) {
            (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12 * expected,
            (found, expected) => found.is_none() && expected.is_none(),
        }
    }

    #[test]
    fn areas_and_figures_are_those_of_mmsegmentation() {
        let golden = golden();
        assert_eq!(golden.len(), 6);
        for (case, found) in
            golden.iter().filter(|(case, _)| case["contains_label_equal_num_classes"] == false)
        {
            assert_eq!(found.intersection(), areas(&case["area_intersect"]));
            assert_eq!(found.union(), areas(&case["area_union"]));
            assert_eq!(found.prediction(), areas(&case["area_pred"]));
            assert_eq!(found.label(), areas(&case["area_label"]));
            for (name, ratios) in [("IoU", found.iou()), ("Acc", found.accuracy())] {
                let expected = case[name].as_array().unwrap();
                assert_eq!(ratios.len(), expected.len());
                let mut pairs = ratios.into_iter().zip(expected);
                assert!(pairs.all(|(found, expected)| is_close(found, expected)), "{} {name}", case["name"]);
            }
            assert!(is_close(found.mean_iou(), &case["mIoU"]), "{}", case["name"]);
            assert!(is_close(found.mean_accuracy(), &case["mAcc"]), "{}", case["name"]);
            assert!(is_close(found.pixel_accuracy(), &case["aAcc"]), "{}", case["name"]);
        }
    }

    /// The case in which one pixel has the label `num_classes`.
    #[test]
    fn a_label_past_the_last_class_is_not_counted_as_the_last_class() {
        let golden = golden();
        let (case, found) =
            golden.iter().find(|(case, _)| case["contains_label_equal_num_classes"] == true).unwrap();
        let (mut label, mut union) = (areas(&case["area_label"]), areas(&case["area_union"]));
        *label.last_mut().unwrap() -= 1;
        *union.last_mut().unwrap() -= 1;
        assert_eq!((found.label(), found.union()), (label.as_slice(), union));
        assert_eq!(found.intersection(), areas(&case["area_intersect"]));
        assert_eq!(found.prediction(), areas(&case["area_pred"]));
    }

    #[test]
    fn where_everything_is_ignored_there_are_no_figures() {
        let mut areas = ConfusionAreas::new(2);
        areas.add(&[0, 1], &[255, 255]);
        assert_eq!(areas, ConfusionAreas::new(2));
        assert_eq!((areas.mean_iou(), areas.mean_accuracy(), areas.pixel_accuracy()), (None, None, None));
    }

    proptest! {
        #[test]
        fn merging_equals_seeing_everything(
            pixels in prop::collection::vec((0_u8..5, 0_u8..5), 1..50), at in 0_usize..50,
        ) {
            let of = |pixels: &[(u8, u8)]| {
                let (prediction, label): (Vec<_>, Vec<_>) = pixels.iter().copied().unzip();
                let mut areas = ConfusionAreas::new(5);
                areas.add(&prediction, &label);
                areas
            };
            let (left, right) = pixels.split_at(at.min(pixels.len()));
            let mut merged = of(left);
            merged.merge(&of(right));
            prop_assert_eq!(merged, of(&pixels));
        }

        #[test]
        fn a_perfect_prediction_has_ratios_of_one(label in prop::collection::vec(0_u8..5, 1..50)) {
            let mut areas = ConfusionAreas::new(7);
            areas.add(&label, &label);
            prop_assert_eq!(areas.mean_iou(), Some(1.0));
            prop_assert_eq!(areas.mean_accuracy(), Some(1.0));
            prop_assert_eq!(areas.pixel_accuracy(), Some(1.0));
        }

        #[test]
        fn classes_that_never_occur_change_no_mean(
            pixels in prop::collection::vec((0_u8..5, 0_u8..5), 1..50), more in 0_usize..200,
        ) {
            let (prediction, label): (Vec<_>, Vec<_>) = pixels.into_iter().unzip();
            let means = |classes| {
                let mut areas = ConfusionAreas::new(classes);
                areas.add(&prediction, &label);
                (areas.mean_iou(), areas.mean_accuracy(), areas.pixel_accuracy())
            };
            prop_assert_eq!(means(5), means(5 + more));
        }
    }
}
