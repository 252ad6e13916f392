//! How well the classes of pixels are found.

use convmae_framework::component::{
    ClassFigures, Evaluator, Measured, Meter, MeterError, Needs, Prediction, Semantic, TaskKind,
};
use convmae_framework::data::{Batch, IGNORED};
use convmae_framework::metrics::{ConfusionAreas, state};
use image::GrayImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Figures of semantic segmentation in percent, over the pixels of all images, as mmsegmentation computes
/// them: the mean over classes of intersection over union (`mIoU`) and of accuracy (`mAcc`), and the accuracy
/// over pixels (`aAcc`).
///
/// Pixels with the label 255 are left out; a class that is neither predicted nor there is left out of the
/// means. Predictions must be as large as the label maps. Of several heads that predict classes of pixels the
/// first counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanIoU {
    /// Whether intersection over union and accuracy of every class that has them are reported as well
    /// (`IoU.0`, `Acc.0`).
    #[serde(default)]
    pub per_class: bool,
}

/// All that a label map can tell apart. Those that never occur change nothing.
const CLASSES: usize = IGNORED as usize;

#[typetag::serde]
impl Evaluator for MeanIoU {
    fn needs(&self) -> Needs {
        Needs::Predictions(TaskKind::Segment)
    }

    fn meter(&self, classes: &[String]) -> Box<dyn Meter> {
        let names = classes.to_vec();
        Box::new(AreaMeter { areas: ConfusionAreas::new(CLASSES), names, per_class: self.per_class })
    }

    fn best(&self) -> (&'static str, bool) {
        ("mIoU", true)
    }
}

convmae_framework::register!(Evaluator: MeanIoU);

/// Areas over images.
struct AreaMeter {
    areas: ConfusionAreas,
    names: Vec<String>,
    per_class: bool,
}

impl Meter for AreaMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Predictions([Prediction::Semantic(Semantic { maps, .. }), ..]) = measured else {
            return Err(MeterError::NotNeeded);
        };
        let images = batch.ids.iter().zip(&batch.targets);
        for (found, (image, target)) in maps.iter().zip(images) {
            let no_map = || MeterError::NoTarget { image: image.clone(), what: "label map" };
            let map = target.semantic.as_ref().ok_or_else(no_map)?;
            let size = |map: &GrayImage| [map.height() as usize, map.width() as usize];
            let (prediction, label) = (size(found), size(map));
            if prediction != label {
                return Err(MeterError::Size { image: image.clone(), prediction, label });
            }
            self.areas.add(found.as_raw(), map.as_raw());
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        state::write(&self.areas)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        self.areas.merge(&state::read(state)?);
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        let areas = &self.areas;
        let mut metrics = vec![
            ("mIoU".to_owned(), areas.mean_iou()),
            ("mAcc".to_owned(), areas.mean_accuracy()),
            ("aAcc".to_owned(), areas.pixel_accuracy()),
        ];
        if self.per_class {
            for (name, ratios) in [("IoU", areas.iou()), ("Acc", areas.accuracy())] {
                let named = |(class, ratio)| (format!("{name}.{class}"), ratio);
                metrics.extend(ratios.into_iter().enumerate().map(named));
            }
        }
        metrics.into_iter().filter_map(|(name, ratio)| Some((name, 100.0 * ratio?))).collect()
    }

    /// Those that are predicted or there.
    fn classes(&self) -> Vec<ClassFigures> {
        let both = self.areas.iou().into_iter().zip(self.areas.accuracy()).enumerate();
        let figures = both.filter_map(|(class, (iou, accuracy))| {
            let figures = [("IoU".to_owned(), Some(iou?)), ("Acc".to_owned(), accuracy)];
            let name = self.names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
            let figures = figures.into_iter().filter_map(|(name, ratio)| Some((name, 100.0 * ratio?)));
            Some(ClassFigures { class: name, figures: figures.collect(), curves: Vec::new() })
        });
        figures.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use convmae_framework::data::{Normalization, Target};
    use convmae_framework::weights;
    use serde_json::Value;

    use super::*;

    /// One image `a.png` with a label map of a size.
    fn batch(height: usize, width: usize, label: &[u8]) -> Batch {
        let map = GrayImage::from_raw(width as u32, height as u32, label.to_vec()).unwrap();
        Batch::new(
            Vec::new(),
            (height, width),
            Normalization::identity(3),
            vec![Target { semantic: Some(map), ..Target::default() }],
            vec!["a.png".to_owned()],
        )
    }

    /// A predicted map of one image.
    fn semantic(height: usize, width: usize, classes: &[u8]) -> Prediction {
        let map = GrayImage::from_raw(width as u32, height as u32, classes.to_vec()).unwrap();
        Prediction::Semantic(Semantic { maps: vec![map], logits: None })
    }

    fn of(metrics: &[(String, f64)], name: &str) -> Option<f64> {
        metrics.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    fn is_close(found: Option<f64>, expected: &Value) -> bool {
        match (found, expected.as_f64()) {
            (Some(found), Some(expected)) => (found - 100.0 * expected).abs() <= 1e-10 * expected,
            (found, expected) => found.is_none() && expected.is_none(),
        }
    }

    #[test]
    fn metrics_are_those_of_mmsegmentation_in_percent() {
        let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation"));
        let golden: Value =
            serde_json::from_slice(&std::fs::read(dir.join("metrics.json")).unwrap()).unwrap();
        let maps = weights::read(&dir.join("metrics.safetensors")).unwrap().tensors;
        // The label past the last class of case 4 is a class like any other here; case 2 has labels that a
        // dataset reduces.
        let excluded = |case: &&Value| case["name"] != "case4" && case["name"] != "case2";
        for case in golden["cases"].as_array().unwrap().iter().filter(excluded) {
            let mut meter = MeanIoU { per_class: true }.meter(&[]);
            for image in 0..case["images"].as_u64().unwrap() {
                let map =
                    |kind| maps.get(&format!("{}.{kind}{image}", case["name"].as_str().unwrap())).unwrap();
                let (prediction, label) = (map("pred"), map("gt"));
                let &[height, width] = label.shape.as_slice() else { panic!("{:?}", label.shape) };
                let found = semantic(height, width, &prediction.data);
                meter.update(Measured::Predictions(&[&found]), &batch(height, width, &label.data)).unwrap();
            }
            let metrics = meter.finish();
            for name in ["mIoU", "mAcc", "aAcc"] {
                assert!(is_close(of(&metrics, name), &case[name]), "{} {name}", case["name"]);
            }
            for name in ["IoU", "Acc"] {
                for (class, expected) in case[name].as_array().unwrap().iter().enumerate() {
                    assert!(is_close(of(&metrics, &format!("{name}.{class}")), expected), "{name}.{class}");
                }
            }
        }
    }

    #[test]
    fn classes_are_reported_only_when_asked_for() {
        let names = |per_class| {
            let mut meter = MeanIoU { per_class }.meter(&[]);
            let found = semantic(1, 3, &[0, 7, 1]);
            meter.update(Measured::Predictions(&[&found]), &batch(1, 3, &[0, 254, 255])).unwrap();
            meter.finish().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["mIoU", "mAcc", "aAcc"]);
        assert_eq!(names(true)[3..], ["IoU.0", "IoU.7", "IoU.254", "Acc.0", "Acc.254"]);
    }

    #[test]
    fn every_class_that_is_predicted_or_there_has_its_figures_and_name() {
        let mut meter = MeanIoU { per_class: false }.meter(&["wall".to_owned()]);
        let found = semantic(1, 4, &[0, 7, 1, 0]);
        meter.update(Measured::Predictions(&[&found]), &batch(1, 4, &[0, 0, 255, 0])).unwrap();
        let classes = meter.classes();
        let of = |name: &str| classes.iter().find(|of| of.class == name).map(|of| of.figures.clone());
        assert_eq!(classes.len(), 2);
        let two_thirds = 100.0 * (2.0 / 3.0);
        assert_eq!(of("wall"), Some(vec![("IoU".to_owned(), two_thirds), ("Acc".to_owned(), two_thirds)]));
        assert_eq!(of("class 7"), Some(vec![("IoU".to_owned(), 0.0)]));
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        let images: [(&[u8], &[u8]); 2] = [(&[0, 7, 1, 1], &[0, 7, 7, 255]), (&[2, 7, 0, 0], &[2, 2, 0, 1])];
        let meter = |images: &[(&[u8], &[u8])]| {
            let mut meter = MeanIoU { per_class: true }.meter(&[]);
            for (found, label) in images {
                let found = semantic(2, 2, found);
                meter.update(Measured::Predictions(&[&found]), &batch(2, 2, label)).unwrap();
            }
            meter
        };
        let mut merged = meter(&images[..1]);
        merged.merge(&meter(&images[1..]).state()).unwrap();
        assert_eq!(merged.finish(), meter(&images).finish());
        assert!(matches!(merged.merge(b"?"), Err(MeterError::State(_))));
    }

    #[test]
    fn an_image_whose_prediction_has_another_size_is_named_with_both() {
        let mut meter = MeanIoU { per_class: false }.meter(&[]);
        let found = semantic(3, 2, &[0; 6]);
        let error = meter.update(Measured::Predictions(&[&found]), &batch(2, 3, &[0; 6])).unwrap_err();
        assert_eq!(error.to_string(), "a.png: the prediction is 3 x 2, the label map 2 x 3");
    }

    #[test]
    fn an_image_without_a_label_map_is_named() {
        let mut batch = batch(1, 1, &[0]);
        batch.targets = vec![Target::default()];
        let found = semantic(1, 1, &[0]);
        let update = MeanIoU { per_class: false }.meter(&[]).update(Measured::Predictions(&[&found]), &batch);
        assert!(update.unwrap_err().to_string().starts_with("a.png: the image has no label map"));
    }
}
