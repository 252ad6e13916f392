//! Evaluation over batches.

use hotcoco::params::Params;
use hotcoco::{Annotation, Category, EvalMode, Image, Segmentation, StreamingEval};
use rayon::prelude::*;

use super::{IouType, Summary};
use crate::component::{MeterError, Regions};
use crate::data::{Batch, Mask, Original, Rle};

/// Detections that were matched with what was annotated, image by image. Of an image that was seen, only the matches are kept; the
/// figures do not depend on the order of images.
#[derive(Clone)]
pub struct AveragePrecision {
    iou_type: IouType,
    /// The names of the classes.
    classes: Vec<String>,
    /// Whether classes are not told apart.
    class_agnostic: bool,
    /// None before the first image.
    matches: Option<StreamingEval>,
}

impl AveragePrecision {
    /// Of no image yet. Detections are matched with objects of their class, or, if it is `class_agnostic`, of any; then `classes` may
    /// be empty.
    pub fn new(iou_type: IouType, mut classes: Vec<String>, class_agnostic: bool) -> Self {
        if class_agnostic && classes.is_empty() {
            classes.push("object".to_owned());
        }
        Self { iou_type, classes, class_agnostic, matches: None }
    }

    /// Takes what was found in the images of a batch, in pixels of the images as they were read.
    ///
    /// # Errors
    /// If an image has no number or, where masks are compared, no masks; if a class is not known, or a score is no number.
    pub fn add(&mut self, batch: &Batch, found: &[Regions]) -> Result<(), MeterError> {
        let (mut images, mut objects, mut detections) = (Vec::new(), Vec::new(), Vec::new());
        for ((name, original), regions) in batch.ids.iter().zip(&batch.originals).zip(found) {
            let image = self::image(name, original)?;
            // In place of a corrupt image comes the next one, which counts once.
            if images.iter().any(|known: &Image| known.id == image.id) {
                continue;
            }
            objects.extend(self.objects(name, image.id, original)?);
            detections.extend(self.detections(name, image.id, original.size, regions)?);
            images.push(image);
        }
        let refused = |error| match error {
            hotcoco::Error::UnknownCategoryIds(classes) => {
                let known = self.classes.len();
                refused(
                    batch,
                    format!(
                        "the dataset names {known} classes, but objects are of class {classes:?} (from 0)"
                    ),
                )
            }
            error => refused(batch, error.to_string()),
        };
        let mut matches = match self.matches.take() {
            Some(matches) => matches,
            None => self.start().map_err(refused)?,
        };
        matches.update(images, objects, detections).map_err(refused)?;
        self.matches = Some(matches);
        Ok(())
    }

    fn start(&self) -> hotcoco::error::Result<StreamingEval> {
        let category = |(id, name): (usize, &String)| Category {
            id: id as u64,
            name: name.clone(),
            ..Category::default()
        };
        let categories = self.classes.iter().enumerate().map(category).collect();
        let params = Params { use_cats: !self.class_agnostic, ..Params::new(self.iou_type.of_hotcoco()) };
        StreamingEval::new(params, EvalMode::Coco, categories)
    }

    /// The category of a class. One that is not known counts where classes are not told apart.
    fn category(&self, class: u32) -> u64 {
        let is_known = (class as usize) < self.classes.len();
        if is_known || !self.class_agnostic { class.into() } else { 0 }
    }

    /// What was annotated in an image.
    fn objects(&self, name: &str, image_id: u64, original: &Original) -> Result<Vec<Annotation>, MeterError> {
        let objects = &original.instances;
        if self.iou_type == IouType::Segm && objects.masks.len() < objects.len() {
            return Err(MeterError::NoTarget { image: name.to_owned(), what: "mask for every object" });
        }
        let object = |at: usize| Annotation {
            image_id,
            category_id: self.category(objects.classes[at]),
            bbox: Some(xywh(objects.boxes[at])),
            area: objects.areas.get(at).copied(),
            // The area of an object is that of its mask, whatever is compared.
            segmentation: objects.masks.get(at).map(segmentation),
            iscrowd: objects.crowd[at],
            ..Annotation::default()
        };
        Ok((0..objects.len()).map(object).collect())
    }

    /// What was found in an image, with what is compared of it only: by that the area of a detection is measured.
    fn detections(
        &self,
        name: &str,
        image_id: u64,
        size: [usize; 2],
        regions: &Regions,
    ) -> Result<Vec<Annotation>, MeterError> {
        if !self.class_agnostic && regions.classes.len() < regions.len() {
            let reason =
                "the heads find objects without classes, which can only be measured together".to_owned();
            return Err(MeterError::Refused { images: name.to_owned(), reason });
        }
        let detection = |at: usize| {
            let found = Annotation {
                image_id,
                category_id: self.category(regions.classes.get(at).copied().unwrap_or(0)),
                score: regions.scores.get(at).copied().map(f64::from),
                ..Annotation::default()
            };
            match self.iou_type {
                IouType::Bbox => Annotation { bbox: Some(xywh(regions.boxes[at])), ..found },
                IouType::Segm => {
                    let mask = regions.masks.get(at).map(|mask| mask.encode(regions.boxes[at], size));
                    Annotation { segmentation: mask.map(|mask| rle(&mask)), ..found }
                }
            }
        };
        Ok((0..regions.len()).into_par_iter().map(detection).collect())
    }

    /// What it has collected, for [`Self::merge`] of another process.
    pub fn state(&self) -> Vec<u8> {
        self.matches.as_ref().map(StreamingEval::to_bytes).unwrap_or_default()
    }

    /// Takes what another has collected.
    ///
    /// # Errors
    /// If these bytes are not [`Self::state`] of one with the same classes.
    pub fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        if state.is_empty() {
            return Ok(());
        }
        let failed = |error: hotcoco::Error| MeterError::State(error.to_string());
        let other = StreamingEval::from_bytes(state).map_err(failed)?;
        if let Some(matches) = &mut self.matches {
            matches.merge(other).map_err(failed)
        } else {
            self.matches = Some(other);
            Ok(())
        }
    }

    /// The figures; none before the first image.
    pub fn summary(&self) -> Option<Summary> {
        Some(Summary::of(self.matches.clone()?.finalize(), self.iou_type))
    }
}

fn image(name: &str, original: &Original) -> Result<Image, MeterError> {
    let reason = "it has no number (`image_id`)";
    let no_number = || MeterError::Refused { images: name.to_owned(), reason: reason.to_owned() };
    let [height, width] = original.size.map(|side| side as u32);
    Ok(Image { id: original.image_id.ok_or_else(no_number)?, height, width, ..Image::default() })
}

fn refused(batch: &Batch, reason: String) -> MeterError {
    MeterError::Refused { images: batch.ids.join(", "), reason }
}

/// A box as COCO has it: its corner, width and height.
pub(super) fn xywh([x0, y0, x1, y1]: [f32; 4]) -> [f64; 4] {
    [x0, y0, x1 - x0, y1 - y0].map(f64::from)
}

fn segmentation(mask: &Mask) -> Segmentation {
    match mask {
        Mask::Polygons(polygons) => {
            Segmentation::Polygon(polygons.iter().map(|corners| corners.as_flattened().to_vec()).collect())
        }
        Mask::Rle(runs) => rle(runs),
    }
}

fn rle(runs: &Rle) -> Segmentation {
    Segmentation::UncompressedRle {
        size: runs.size().map(|side| side as u32),
        counts: runs.counts().to_vec(),
    }
}
