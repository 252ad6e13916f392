//! How well objects are found.

use convmae_framework::component::{
    ClassFigures, Evaluator, Measured, Meter, MeterError, Needs, Prediction, Regions, TaskKind,
};
use convmae_framework::data::Batch;
use convmae_framework::metrics::coco::{AveragePrecision, IouType, Summary};
use convmae_framework::metrics::state;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// COCO's figures of detected boxes and masks in percent, those of pycocotools: average precision over IoU thresholds from 0.5 to 0.95
/// (`box_ap`), at 0.5 and 0.75 (`box_ap50`, `box_ap75`), and of small, medium and large objects (`box_ap_small`, ..); average recall with
/// 1, 10 and 100 detections for an image (`box_ar1`, `box_ar10`, `box_ar100`), and by size (`box_ar_small`, ..). Those of masks begin with
/// `mask`.
///
/// A figure that there is nothing to measure for is left out (-1 in pycocotools). What is predicted is compared with what was annotated
/// in the images as they were read. Annotated areas decide about the size of objects; without, the pixels of masks. Of several heads
/// that predict objects the first counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CocoAp {
    /// What is measured. Masks are left out if the heads find none.
    #[schemars(length(min = 1))]
    pub types: Vec<IouType>,
    /// Whether the average precision of every class that has objects is reported as well (`box_ap.person`).
    pub per_class: bool,
    /// Whether detections are matched with objects of any class, as with `useCats = 0` in pycocotools. Heads that find objects without
    /// classes can only be measured so.
    pub class_agnostic: bool,
}

impl Default for CocoAp {
    fn default() -> Self {
        Self { types: vec![IouType::Bbox, IouType::Segm], per_class: false, class_agnostic: false }
    }
}

#[typetag::serde]
impl Evaluator for CocoAp {
    fn needs(&self) -> Needs {
        Needs::Predictions(TaskKind::Detect)
    }

    fn meter(&self, classes: &[String]) -> Box<dyn Meter> {
        let of = |iou_type| {
            let new = || AveragePrecision::new(iou_type, classes.to_vec(), self.class_agnostic);
            self.types.contains(&iou_type).then(new)
        };
        Box::new(ObjectMeter {
            boxes: of(IouType::Bbox),
            masks: of(IouType::Segm),
            per_class: self.per_class,
        })
    }

    fn best(&self) -> (&'static str, bool) {
        (if self.types.contains(&IouType::Bbox) { "box_ap" } else { "mask_ap" }, true)
    }
}

convmae_framework::register!(Evaluator: CocoAp);

/// What is measured; masks no longer once objects were found without.
struct ObjectMeter {
    boxes: Option<AveragePrecision>,
    masks: Option<AveragePrecision>,
    per_class: bool,
}

/// What an [`ObjectMeter`] has collected.
#[derive(Serialize, Deserialize)]
struct State {
    boxes: Option<Vec<u8>>,
    masks: Option<Vec<u8>>,
}

impl ObjectMeter {
    fn measured(&mut self) -> impl Iterator<Item = &mut AveragePrecision> {
        self.boxes.iter_mut().chain(&mut self.masks)
    }

    fn summaries(&self) -> impl Iterator<Item = Summary> {
        self.boxes.iter().chain(&self.masks).filter_map(AveragePrecision::summary)
    }
}

impl Meter for ObjectMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Predictions([Prediction::Instances(found), ..]) = measured else {
            return Err(MeterError::NotNeeded);
        };
        let has_masks = |regions: &Regions| regions.masks.len() == regions.len();
        if !found.iter().all(has_masks) {
            self.masks = None;
        }
        self.measured().try_for_each(|measured| measured.add(batch, found))
    }

    fn state(&self) -> Vec<u8> {
        let [boxes, masks] =
            [&self.boxes, &self.masks].map(|measured| measured.as_ref().map(AveragePrecision::state));
        state::write(&State { boxes, masks })
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        let other: State = state::read(state)?;
        for (own, other) in [(&mut self.boxes, other.boxes), (&mut self.masks, other.masks)] {
            match (own.as_mut(), other) {
                (Some(own), Some(other)) => own.merge(&other)?,
                _ => *own = None,
            }
        }
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        self.summaries().flat_map(|summary| summary.metrics(self.per_class)).collect()
    }

    /// Boxes and masks of a class together.
    fn classes(&self) -> Vec<ClassFigures> {
        let mut classes: Vec<ClassFigures> = Vec::new();
        for of in self.summaries().flat_map(|summary| summary.class_figures()) {
            match classes.iter_mut().find(|known| known.class == of.class) {
                Some(known) => {
                    known.figures.extend(of.figures);
                    known.curves.extend(of.curves);
                }
                None => classes.push(of),
            }
        }
        classes
    }
}

#[cfg(test)]
mod tests;
