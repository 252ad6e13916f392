//! Evaluation of results files, of whatever tool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotcoco::{Annotation, COCO, COCOeval, Segmentation};

use super::{IouType, Summary};

/// The IoU from which on a detection is right, and that up to which it finds nothing: those of TIDE.
const TIDE_THRESHOLDS: [f64; 2] = [0.5, 0.1];

/// What results are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesReport {
    /// Images of the annotations.
    pub images: usize,
    /// Detections of the results.
    pub detections: usize,
    /// The figures by what was compared.
    pub summaries: Vec<Summary>,
}

/// Why results cannot be evaluated.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CocoError {
    /// A file cannot be read.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(help(
        "annotations are an object with `images`, `annotations` and `categories`, results a list of objects with `image_id`, \
         `category_id`, `score` and `bbox` or `segmentation`"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Results name what the annotations do not have.
    #[error("{}: {count} detections have {what} that {} does not have: {first}", results.display(), annotations.display())]
    #[diagnostic(help("are these the results of another dataset, or of another part of it?"))]
    Unknown {
        /// The results.
        results: PathBuf,
        /// The annotations.
        annotations: PathBuf,
        /// How many detections.
        count: usize,
        /// What they name: `an image_id`.
        what: &'static str,
        /// The first numbers.
        first: String,
    },
    /// A detection lacks what is compared, or it is not that of its image.
    #[error("{}: detection {number} (from 0, of image {image}) {reason}", results.display())]
    Detection {
        /// The results.
        results: PathBuf,
        /// Its place in the list.
        number: usize,
        /// The number of its image.
        image: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Compares results with annotations (instances of COCO's format): by `types`, or, if that is empty, by boxes and, where all
/// detections have masks, by these, too. With `tide`, the errors are told apart.
///
/// Where an annotation has the id 0, pycocotools finds its object but counts it as missed; here it counts as found.
///
/// # Errors
/// If a file cannot be read, or the results are not of these images and categories.
pub fn evaluate_files(
    results: &Path,
    annotations: &Path,
    types: &[IouType],
    tide: bool,
) -> Result<FilesReport, CocoError> {
    let files = Files::read(results, annotations)?;
    let types = match types {
        [] if files.have_masks() => &[IouType::Bbox, IouType::Segm],
        [] => &[IouType::Bbox][..],
        types => types,
    };
    let summaries = types.iter().map(|&iou_type| files.summary(iou_type, tide));
    Ok(FilesReport {
        images: files.objects.dataset.images.len(),
        detections: files.found.len(),
        summaries: summaries.collect::<Result<_, _>>()?,
    })
}

fn refused(path: &Path, error: &hotcoco::Error) -> CocoError {
    CocoError::Read { path: path.to_owned(), reason: error.to_string() }
}

/// Whether a mask was found, rather than made of the box.
fn has_mask(found: &Annotation) -> bool {
    found.segmentation.as_ref().is_some_and(|mask| !matches!(mask, Segmentation::Rect(_)))
}

/// Results and annotations that fit.
struct Files<'a> {
    results: &'a Path,
    annotations: &'a Path,
    objects: Arc<COCO>,
    found: Vec<Annotation>,
}

impl<'a> Files<'a> {
    fn read(results: &'a Path, annotations: &'a Path) -> Result<Self, CocoError> {
        let objects = COCO::new(annotations).map_err(|error| refused(annotations, &error))?;
        if objects.dataset.images.is_empty() || objects.dataset.annotations.is_empty() {
            let reason = "there is nothing to measure: it has no `images`, or no `annotations`".to_owned();
            return Err(CocoError::Read { path: annotations.to_owned(), reason });
        }
        if objects.get_ann(0).is_some() {
            tracing::warn!(
                "{}: pycocotools counts the object of the annotation with the id 0 as missed, even if it is found; here it \
                 counts as found",
                annotations.display()
            );
        }
        let mut found = objects.load_res(results).map_err(|error| refused(results, &error))?;
        let found = std::mem::take(&mut found.dataset.annotations);
        let files = Self { results, annotations, objects: Arc::new(objects), found };
        files.check_known("an image_id", |found| found.image_id, |id| files.objects.get_img(id).is_some())?;
        files.check_known(
            "a category_id",
            |found| found.category_id,
            |id| files.objects.get_cat(id).is_some(),
        )?;
        Ok(files)
    }

    fn have_masks(&self) -> bool {
        !self.found.is_empty() && self.found.iter().all(has_mask)
    }

    fn summary(&self, iou_type: IouType, tide: bool) -> Result<Summary, CocoError> {
        let refused = |error: hotcoco::Error| refused(self.results, &error);
        let evaluation = self.matched(self.detections(iou_type)?, iou_type).map_err(refused)?;
        let errors = tide.then(|| evaluation.tide_errors(TIDE_THRESHOLDS[0], TIDE_THRESHOLDS[1]));
        let errors = errors.transpose().map_err(refused)?;
        let summary = Summary::of(evaluation, iou_type);
        Ok(errors.iter().fold(summary, Summary::with_errors))
    }

    fn matched(&self, detections: Vec<Annotation>, iou_type: IouType) -> hotcoco::error::Result<COCOeval> {
        let detections = self.objects.load_res_anns(detections)?;
        let mut evaluation = COCOeval::new(Arc::clone(&self.objects), detections, iou_type.of_hotcoco());
        evaluation.evaluate()?;
        Ok(evaluation)
    }

    fn check_known(
        &self,
        what: &'static str,
        id: impl Fn(&Annotation) -> u64,
        is_known: impl Fn(u64) -> bool,
    ) -> Result<(), CocoError> {
        let unknown: Vec<u64> = self.found.iter().map(id).filter(|&id| !is_known(id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let first: BTreeSet<u64> = unknown.iter().copied().collect();
        let mut first: Vec<String> = first.iter().map(u64::to_string).collect();
        if first.len() > 3 {
            first.truncate(3);
            first.push("..".to_owned());
        }
        Err(CocoError::Unknown {
            results: self.results.to_owned(),
            annotations: self.annotations.to_owned(),
            count: unknown.len(),
            what,
            first: first.join(", "),
        })
    }

    /// The detections with what is compared of them only: by that their areas are measured, as detectron2 has it, which drops the
    /// boxes before it compares masks.
    fn detections(&self, iou_type: IouType) -> Result<Vec<Annotation>, CocoError> {
        let detection = |(number, found): (usize, &Annotation)| {
            let image = found.image_id;
            let refused =
                |reason| CocoError::Detection { results: self.results.to_owned(), number, image, reason };
            if found.score.is_none() {
                return Err(refused("has no `score`".to_owned()));
            }
            let Annotation { image_id, category_id, score, .. } = *found;
            let compared = Annotation { image_id, category_id, score, ..Annotation::default() };
            match iou_type {
                IouType::Bbox if found.bbox.is_none() => Err(refused("has no `bbox`".to_owned())),
                IouType::Bbox => Ok(Annotation { bbox: found.bbox, ..compared }),
                IouType::Segm if !has_mask(found) => Err(refused("has no `segmentation`".to_owned())),
                IouType::Segm => {
                    self.check_mask(found).map_err(refused)?;
                    Ok(Annotation { segmentation: found.segmentation.clone(), ..compared })
                }
            }
        };
        self.found.iter().enumerate().map(detection).collect()
    }

    /// What is wrong with run lengths.
    fn check_mask(&self, found: &Annotation) -> Result<(), String> {
        let Some(
            mask @ (Segmentation::CompressedRle { size, .. } | Segmentation::UncompressedRle { size, .. }),
        ) = &found.segmentation
        else {
            return Ok(());
        };
        let (Some(runs), Some(image)) = (mask.rle_ref(), self.objects.get_img(found.image_id)) else {
            return Ok(());
        };
        let area = runs.area().map_err(|error| format!("has run lengths that are none: {error}"))?;
        if *size == [image.height, image.width] {
            return Ok(());
        }
        let [height, width] = size;
        Err(format!(
            "has a mask of {area} pixels in an image of {height} x {width}; the image is {} x {}",
            image.height, image.width
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn golden(name: &str) -> Value {
        let path = format!("{}/../tests/data/detection/coco/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// What files with these contents are worth.
    fn evaluate(results: &str, annotations: &str, types: &[IouType]) -> Result<FilesReport, CocoError> {
        let folder = tempfile::tempdir().unwrap();
        let [results, annotations] =
            [("results.json", results), ("annotations.json", annotations)].map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            });
        evaluate_files(&results, &annotations, types, true)
    }

    /// The message, without its folder.
    fn error(results: &str, annotations: &str) -> String {
        let message = evaluate(results, annotations, &[]).unwrap_err().to_string();
        message.split('/').next_back().unwrap().to_owned()
    }

    /// Whether figures in percent are those of pycocotools, of which what could not be measured is left out.
    fn assert_stats(found: &Summary, stats: &Value, tolerance: f64, case: &str) {
        let stats: Vec<f64> = serde_json::from_value(stats.clone()).unwrap();
        let stats: Vec<f64> = stats.into_iter().filter(|&value| value > -1.0).collect();
        assert_eq!(found.figures.len(), stats.len(), "{case}: {found:?}");
        for ((name, value), expected) in found.figures.iter().zip(stats) {
            assert!(
                (value / 100.0 - expected).abs() <= tolerance,
                "{case}: {name} is {value}, not {expected}"
            );
        }
    }

    fn types(case: &Value) -> Vec<IouType> {
        let known = [("bbox", IouType::Bbox), ("segm", IouType::Segm)];
        known
            .into_iter()
            .filter(|(name, _)| case.get(*name).is_some())
            .map(|(_, iou_type)| iou_type)
            .collect()
    }

    #[test]
    fn figures_are_those_of_pycocotools() {
        let golden = golden("coco_eval.json");
        let results = golden["detections"].to_string();
        let FilesReport { images, detections, summaries } =
            evaluate(&results, &golden["ground_truth"].to_string(), &[]).unwrap();
        assert_eq!((images, detections, summaries.len()), (40, 523, 2));
        for (summary, name) in summaries.iter().zip(["bbox", "segm"]) {
            let expected = &golden["expected"][name];
            assert_stats(summary, &expected["stats"], 1e-6, name);
            assert_eq!(summary.figures.len(), 12);
            let classes = expected["per_category_AP"].as_array().unwrap().iter();
            let classes: Vec<f64> = classes.filter_map(|class| class["AP"].as_f64()).collect();
            assert_eq!(summary.classes.len(), classes.len());
            for (class, ap) in summary.classes.iter().zip(classes) {
                assert!((class.ap / 100.0 - ap).abs() <= 1e-6, "{name}: {}", class.name);
                assert_eq!((class.precision50.len(), class.precision75.len()), (101, 101));
            }
        }
    }

    #[test]
    fn every_rule_is_that_of_pycocotools() {
        let golden = golden("eval_cases.json");
        for (name, case) in golden["cases"].as_object().unwrap() {
            // pycocotools loses the annotation with the id 0: the truth is the case with other ids.
            let expected = match name.as_str() {
                "annotation_id_zero" => &golden["cases"]["annotation_id_zero_shifted"],
                _ => case,
            };
            let (results, annotations) = (case["detections"].to_string(), case["ground_truth"].to_string());
            let types = types(case);
            let report = evaluate(&results, &annotations, &types).unwrap();
            for (summary, iou_type) in report.summaries.iter().zip(&types) {
                let expected = &expected[if *iou_type == IouType::Bbox { "bbox" } else { "segm" }];
                assert_stats(summary, &expected["stats"], 1e-9, name);
            }
        }
    }

    /// `[T][K][A][M]` values of a golden as one row.
    fn flat(values: &Value) -> Vec<f64> {
        match values.as_array() {
            Some(parts) => parts.iter().flat_map(flat).collect(),
            None => vec![values.as_f64().unwrap_or(-1.0)],
        }
    }

    #[test]
    fn recalls_of_all_thresholds_classes_and_sizes_are_those_of_pycocotools() {
        let golden = golden("coco_eval.json");
        let objects = COCO::from_dataset(serde_json::from_value(golden["ground_truth"].clone()).unwrap());
        let found = serde_json::from_value(golden["detections"].clone()).unwrap();
        let nowhere = Path::new("");
        let files = Files { results: nowhere, annotations: nowhere, objects: Arc::new(objects), found };
        for (iou_type, name) in [(IouType::Bbox, "bbox"), (IouType::Segm, "segm")] {
            let mut evaluated = files.matched(files.detections(iou_type).unwrap(), iou_type).unwrap();
            evaluated.accumulate();
            let expected = flat(&golden["expected"][name]["recall_by_iou_category_area_maxdet"]);
            let found = &evaluated.accumulated().unwrap().recall;
            assert_eq!(found.len(), expected.len());
            let is_near = |(found, expected): (&f64, f64)| (found - expected).abs() <= 1e-6;
            assert!(found.iter().zip(expected).all(is_near), "{name}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let mut elsewhere = detection(7, 1);
        elsewhere["bbox"] = json!([2, 2, 10, 4]);
        let report = evaluate(&json!([elsewhere]).to_string(), &annotations().to_string(), &[]).unwrap();
        let metrics = report.summaries[0].metrics(false);
        let errors: Vec<_> = metrics.iter().filter(|(name, _)| name.starts_with("box_tide_")).collect();
        assert_eq!(errors.len(), 8, "{metrics:?}");
        let cost = |name: &str| errors.iter().find(|error| error.0 == name).map(|error| error.1);
        assert!(cost("box_tide_loc").is_some_and(|cost| (cost - 100.0).abs() < 1e-9), "{metrics:?}");
        assert_eq!(cost("box_tide_cls"), Some(0.0));
    }

    /// A square object, of category 1, in image 7 of 20 x 20.
    fn annotations() -> Value {
        json!({
            "images": [{ "id": 7, "height": 20, "width": 20, "file_name": "a.jpg" }],
            "annotations": [{
                "id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0,
                "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]],
            }],
            "categories": [{ "id": 1, "name": "square" }],
        })
    }

    fn detection(image: u64, category: u64) -> Value {
        json!({ "image_id": image, "category_id": category, "bbox": [2, 2, 10, 10], "score": 0.5 })
    }

    #[test]
    fn results_of_boxes_are_compared_by_boxes_alone() {
        let report =
            evaluate(&json!([detection(7, 1)]).to_string(), &annotations().to_string(), &[]).unwrap();
        let [summary] = &report.summaries[..] else { panic!("{report:?}") };
        assert!((summary.figures[0].1 - 100.0).abs() < 1e-9, "{summary:?}");
        assert_eq!(summary.metrics(true).last().map(|metric| metric.0.as_str()), Some("box_ap.square"));
        let masks =
            evaluate(&json!([detection(7, 1)]).to_string(), &annotations().to_string(), &[IouType::Segm]);
        let message = masks.unwrap_err().to_string();
        assert!(message.ends_with("detection 0 (from 0, of image 7) has no `segmentation`"), "{message}");
    }

    #[test]
    fn no_detections_find_nothing() {
        let report = evaluate("[]", &annotations().to_string(), &[]).unwrap();
        assert_eq!(
            (report.detections, report.summaries[0].figures[0].clone()),
            (0, ("box_ap".to_owned(), 0.0))
        );
    }

    #[test]
    fn results_of_other_images_or_categories_are_refused() {
        let annotations = annotations().to_string();
        let of = |numbers: &[(u64, u64)]| {
            let found: Vec<_> = numbers.iter().map(|&(image, category)| detection(image, category)).collect();
            error(&json!(found).to_string(), &annotations)
        };
        assert_eq!(
            of(&[(7, 1), (14, 1), (12, 1), (13, 1), (11, 1), (11, 1)]),
            "annotations.json does not have: 11, 12, 13, .."
        );
        assert_eq!(of(&[(7, 1), (7, 3)]), "annotations.json does not have: 3");
        let several =
            evaluate(&json!([detection(8, 1)]).to_string(), &annotations, &[]).unwrap_err().to_string();
        assert!(several.contains("results.json: 1 detections have an image_id that"), "{several}");
    }

    #[test]
    fn files_that_are_something_else_are_refused() {
        let (good, results) = (annotations().to_string(), json!([detection(7, 1)]).to_string());
        for broken in ["", "not json", "{\"annotations\": 3}", "[{\"image_id\": 7}]"] {
            let message = error(broken, &good);
            assert!(message.starts_with("results.json: "), "{message}");
            let message = error(&results, broken);
            assert!(message.starts_with("annotations.json: "), "{message}");
        }
        let nothing =
            "annotations.json: there is nothing to measure: it has no `images`, or no `annotations`";
        assert_eq!(error(&results, "{}"), nothing);
        let mut unscored = detection(7, 1);
        unscored.as_object_mut().unwrap().remove("score");
        let message = error(&json!([unscored]).to_string(), &good);
        assert_eq!(message, "results.json: detection 0 (from 0, of image 7) has no `score`");
    }

    #[test]
    fn masks_of_another_size_and_broken_run_lengths_are_refused() {
        let of = |size: [u32; 2], counts: Value| {
            let mut found = detection(7, 1);
            found["segmentation"] = json!({ "size": size, "counts": counts });
            error(&json!([found]).to_string(), &annotations().to_string())
        };
        let message = of([10, 30], json!([0, 300]));
        assert!(
            message.ends_with("has a mask of 300 pixels in an image of 10 x 30; the image is 20 x 20"),
            "{message}"
        );
        let message = of([20, 20], json!([0, 500]));
        assert!(message.contains("has run lengths that are none: "), "{message}");
    }
}
