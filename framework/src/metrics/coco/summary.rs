//! The figures of matched detections.

use std::ops::Range;

use hotcoco::{AccumulatedEval, COCOeval, TideErrors};

use super::IouType;
use crate::component::ClassFigures;
use crate::metrics::WeightedMean;

/// What the figures of `COCOeval.stats` are called here, in its order.
const NAMES: [&str; 12] = [
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
];

/// How well objects were found, in percent. What there was nothing to measure for (-1 in pycocotools) is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What was compared.
    pub iou_type: IouType,
    /// The figures that are means over classes, by name: `box_ap`, `box_ap50`, .., `mask_ar_large`.
    pub figures: Vec<(String, f64)>,
    /// The classes that have objects, in their order.
    pub classes: Vec<ClassSummary>,
    /// How much average precision at an IoU of 0.5 each kind of error costs (TIDE, Bolya et al. 2020), where that was asked for:
    /// `box_tide_cls`, ..
    pub errors: Vec<(String, f64)>,
}

/// How well the objects of a class were found, in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassSummary {
    /// The name of the class.
    pub name: String,
    /// Average precision, over IoU thresholds from 0.5 to 0.95.
    pub ap: f64,
    /// Precision at 101 recalls from 0 to 1, for an IoU threshold of 0.5.
    pub precision50: Vec<f64>,
    /// The same for a threshold of 0.75.
    pub precision75: Vec<f64>,
}

impl Summary {
    /// Of what `COCOeval::evaluate` has matched with its default parameters.
    pub(super) fn of(mut evaluated: COCOeval, iou_type: IouType) -> Self {
        evaluated.accumulate();
        evaluated.summarize_lines();
        let stats = NAMES.into_iter().zip(evaluated.stats().unwrap_or_default());
        let figures = stats.filter(|(_, value)| is_measured(**value));
        let figures = figures.map(|(name, value)| (format!("{}_{name}", iou_type.prefix()), 100.0 * value));
        let of_classes = |accumulated| classes(accumulated, |id| evaluated.coco_gt().cat_name(id));
        let classes = evaluated.accumulated().map(of_classes).unwrap_or_default();
        Self { iou_type, figures: figures.collect(), classes, errors: Vec::new() }
    }

    /// With the [errors](Self::errors) of the same matches.
    pub(super) fn with_errors(self, tide: &TideErrors) -> Self {
        let prefix = self.iou_type.prefix();
        let error =
            |(kind, cost): (&String, &f64)| (format!("{prefix}_tide_{}", kind.to_lowercase()), 100.0 * cost);
        Self { errors: tide.delta_ap.iter().map(error).collect(), ..self }
    }

    /// What a report shows of every class.
    pub fn class_figures(&self) -> Vec<ClassFigures> {
        let named = |name: &str| format!("{}_{name}", self.iou_type.prefix());
        let figures = |class: &ClassSummary| {
            let [ap50, ap75] = [&class.precision50, &class.precision75].map(|curve| mean(curve));
            let figures = [("ap", Some(class.ap)), ("ap50", ap50), ("ap75", ap75)];
            let curves = [("ap50", &class.precision50), ("ap75", &class.precision75)];
            ClassFigures {
                class: class.name.clone(),
                figures: figures
                    .into_iter()
                    .filter_map(|(name, value)| Some((named(name), value?)))
                    .collect(),
                curves: curves.into_iter().map(|(name, curve)| (named(name), curve.clone())).collect(),
            }
        };
        self.classes.iter().map(figures).collect()
    }

    /// The figures as metrics; with those `per_class`, `box_ap.person`.
    pub fn metrics(&self, per_class: bool) -> Vec<(String, f64)> {
        let of_class =
            |class: &ClassSummary| (format!("{}_ap.{}", self.iou_type.prefix(), class.name), class.ap);
        let classes = self.classes.iter().filter(|_| per_class).map(of_class);
        self.figures.iter().chain(&self.errors).cloned().chain(classes).collect()
    }
}

fn is_measured(value: f64) -> bool {
    value > -1.0
}

fn classes(of: &AccumulatedEval, name: impl Fn(u64) -> String) -> Vec<ClassSummary> {
    let class = |(class, &id): (usize, &u64)| {
        let at = |thresholds| precision(of, class, thresholds).collect::<Vec<_>>();
        let ap = mean(&at(0..of.shape.t))?;
        Some(ClassSummary { name: name(id), ap, precision50: at(0..1), precision75: at(5..6) })
    };
    of.cat_ids.iter().enumerate().filter_map(class).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    let mut mean = WeightedMean::default();
    values.iter().for_each(|&value| mean.add(value, 1));
    mean.mean()
}

/// In percent, at every recall for every one of `thresholds`: of objects of all sizes, with as many detections as count.
fn precision(of: &AccumulatedEval, class: usize, thresholds: Range<usize>) -> impl Iterator<Item = f64> {
    let at = move |threshold| {
        (0..of.shape.r).map(move |recall| of.precision_idx(threshold, recall, class, 0, of.shape.m - 1))
    };
    let values = thresholds.flat_map(at).map(|at| of.precision[at]);
    values.filter(|&value| is_measured(value)).map(|value| 100.0 * value)
}
