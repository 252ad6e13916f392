//! How well the classes of pixels are found.

use convmae_framework::component::{Evaluator, Meter, MeterError, Needs, Predictions};
use convmae_framework::data::{Batch, IGNORED};
use convmae_framework::metrics::ConfusionAreas;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Figures of semantic segmentation in percent, over the pixels of all images, as mmsegmentation computes them: the mean
/// over classes of intersection over union (`mIoU`) and of accuracy (`mAcc`), and the accuracy over pixels (`aAcc`).
///
/// Pixels with the label 255 are left out; a class that is neither predicted nor there is left out of the means. Predictions
/// must be as large as the label maps. Of several heads that predict classes of pixels the first counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanIoU {
    /// Whether intersection over union and accuracy of every class that has them are reported as well (`IoU.0`, `Acc.0`).
    #[serde(default)]
    pub per_class: bool,
}

/// All that a label map can tell apart. Those that never occur change nothing.
const CLASSES: usize = IGNORED as usize;

#[typetag::serde]
impl Evaluator for MeanIoU {
    fn needs(&self) -> Needs {
        Needs::Predictions
    }

    fn meter(&self) -> Box<dyn Meter> {
        Box::new(AreaMeter { areas: ConfusionAreas::new(CLASSES), per_class: self.per_class })
    }

    fn best(&self) -> (&'static str, bool) {
        ("mIoU", true)
    }
}

convmae_framework::register!(Evaluator: MeanIoU);

/// Areas over images.
struct AreaMeter {
    areas: ConfusionAreas,
    per_class: bool,
}

impl Meter for AreaMeter {
    fn update(
        &mut self,
        _: &[(String, f64)],
        predictions: &[(String, Predictions)],
        batch: &Batch,
    ) -> Result<(), MeterError> {
        let found = Predictions::find(predictions, "semantic");
        let (shape, values) = found.ok_or(MeterError::NoPrediction("semantic"))?;
        let (height, width) = match *shape {
            [images, height @ 1..=usize::MAX, width @ 1..=usize::MAX] if images == batch.len() => {
                (height, width)
            }
            _ => {
                return Err(MeterError::Shape {
                    name: "semantic",
                    shape: shape.to_vec(),
                    expected: "[B, H, W], without a 0",
                });
            }
        };
        let images = batch.ids.iter().zip(&batch.targets);
        for (values, (image, target)) in values.chunks_exact(height * width).zip(images) {
            let no_map = || MeterError::NoTarget { image: image.clone(), what: "label map" };
            let map = target.semantic.as_ref().ok_or_else(no_map)?;
            let (prediction, label) = ([height, width], [map.height() as usize, map.width() as usize]);
            if prediction != label {
                return Err(MeterError::Size { image: image.clone(), prediction, label });
            }
            let classes: Result<Vec<u8>, f32> = values.iter().map(|&value| class(value)).collect();
            let classes = classes.map_err(|value| MeterError::NotAClass { image: image.clone(), value })?;
            self.areas.add(&classes, map.as_raw());
        }
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
}

/// The class that a value is the index of, or the value.
fn class(value: f32) -> Result<u8, f32> {
    let class = value as u8;
    if f32::from(class) == value && usize::from(class) < CLASSES { Ok(class) } else { Err(value) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use convmae_framework::data::{Normalization, Target};
    use convmae_framework::weights;
    use image::GrayImage;
    use serde_json::Value;

    use super::*;

    /// One image `a.png` with a label map of a size.
    fn batch(height: usize, width: usize, label: &[u8]) -> Batch {
        let map = GrayImage::from_raw(width as u32, height as u32, label.to_vec()).unwrap();
        Batch::new(
            Vec::new(),
            (height, width),
            Normalization { mean: [0.0; 3], std: [1.0; 3] },
            vec![Target { semantic: Some(map), ..Target::default() }],
            vec!["a.png".to_owned()],
        )
    }

    fn predictions(shape: &[usize], classes: &[f32]) -> (String, Predictions) {
        let mut predictions = Predictions::default();
        predictions.arrays.insert("semantic".to_owned(), (shape.to_vec(), classes.to_vec()));
        ("head".to_owned(), predictions)
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
        // The label past the last class of case 4 is a class like any other here; case 2 has labels that a dataset reduces.
        let excluded = |case: &&Value| case["name"] != "case4" && case["name"] != "case2";
        for case in golden["cases"].as_array().unwrap().iter().filter(excluded) {
            let mut meter = MeanIoU { per_class: true }.meter();
            for image in 0..case["images"].as_u64().unwrap() {
                let map =
                    |kind| maps.get(&format!("{}.{kind}{image}", case["name"].as_str().unwrap())).unwrap();
                let (prediction, label) = (map("pred"), map("gt"));
                let &[height, width] = label.shape.as_slice() else { panic!("{:?}", label.shape) };
                let classes: Vec<f32> = prediction.data.iter().copied().map(f32::from).collect();
                let predictions = [predictions(&[1, height, width], &classes)];
                meter.update(&[], &predictions, &batch(height, width, &label.data)).unwrap();
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
            let mut meter = MeanIoU { per_class }.meter();
            let predictions = [predictions(&[1, 1, 3], &[0.0, 7.0, 1.0])];
            meter.update(&[], &predictions, &batch(1, 3, &[0, 254, 255])).unwrap();
            meter.finish().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["mIoU", "mAcc", "aAcc"]);
        assert_eq!(names(true)[3..], ["IoU.0", "IoU.7", "IoU.254", "Acc.0", "Acc.254"]);
    }

    #[test]
    fn the_first_head_with_classes_of_pixels_counts() {
        let mut meter = MeanIoU { per_class: false }.meter();
        let other = ("other".to_owned(), Predictions::default());
        let heads = [other, predictions(&[1, 1, 1], &[3.0]), predictions(&[1, 1, 1], &[0.0])];
        meter.update(&[], &heads, &batch(1, 1, &[3])).unwrap();
        assert_eq!(of(&meter.finish(), "mIoU"), Some(100.0));
    }

    /// What a meter says to a prediction for one image with a label map of 2 x 3 pixels.
    fn error(shape: &[usize], classes: &[f32]) -> String {
        let mut meter = MeanIoU { per_class: false }.meter();
        meter.update(&[], &[predictions(shape, classes)], &batch(2, 3, &[0; 6])).unwrap_err().to_string()
    }

    #[test]
    fn an_image_whose_prediction_has_another_size_is_named_with_both() {
        assert_eq!(error(&[1, 3, 2], &[0.0; 6]), "a.png: the prediction is 3 x 2, the label map 2 x 3");
    }

    #[test]
    fn what_is_not_the_index_of_a_class_is_refused() {
        for value in [0.5, -1.0, 255.0, 300.0, f32::NAN, f32::INFINITY] {
            let message = error(&[1, 2, 3], &[0.0, 1.0, value, 0.0, 0.0, 0.0]);
            assert!(
                message.starts_with(&format!("a.png: the prediction has the value {value}")),
                "{message}"
            );
        }
    }

    #[test]
    fn an_array_of_another_shape_is_refused() {
        for shape in [&[6][..], &[1, 2, 3, 1], &[1, 0, 3]] {
            assert!(error(shape, &[0.0; 6]).contains("it should be [B, H, W]"));
        }
    }

    #[test]
    fn an_image_without_a_label_map_is_named() {
        let mut batch = batch(1, 1, &[0]);
        batch.targets = vec![Target::default()];
        let update =
            MeanIoU { per_class: false }.meter().update(&[], &[predictions(&[1, 1, 1], &[0.0])], &batch);
        assert!(update.unwrap_err().to_string().starts_with("a.png: the image has no label map"));
    }

    #[test]
    fn a_model_without_classes_of_pixels_is_refused() {
        let mut meter = MeanIoU { per_class: false }.meter();
        let update = meter.update(&[], &[], &batch(1, 1, &[0]));
        assert_eq!(update, Err(MeterError::NoPrediction("semantic")));
    }
}
