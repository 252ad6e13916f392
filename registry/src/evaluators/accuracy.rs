//! How often the class is among the likeliest.

use std::collections::BTreeMap;

use convmae_framework::component::{
    ClassFigures, Confusion, Evaluator, Logits, Measured, Meter, MeterError, Needs, Prediction, TaskKind,
};
use convmae_framework::data::Batch;
use convmae_framework::metrics::{WeightedMean, state};
use convmae_framework::nn::cpu::argmax::argmax;
use convmae_framework::nn::cpu::cross_entropy::log_sums;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of images, in percent, whose class is among the `k` with the largest logits (`top1`, `top5`), and
/// the mean cross entropy (`loss`), over all images, which must have a class. Reports show which classes are taken for which. Of equal logits the class with
/// the lower index comes first; a prediction that is not a number is wrong. Of several heads with classes the
/// first counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Accuracy {
    /// The numbers of classes; 1 is always among them. More than the head has are as many as it has.
    #[schemars(inner(range(min = 1)))]
    pub topk: Vec<usize>,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { topk: vec![1, 5] }
    }
}

#[typetag::serde]
impl Evaluator for Accuracy {
    fn needs(&self) -> Needs {
        Needs::Predictions(TaskKind::Classify)
    }

    fn meter(&self, classes: &[String]) -> Box<dyn Meter> {
        let hits = self.topk.iter().chain(&[1]).map(|&k| (k, WeightedMean::default())).collect();
        Box::new(AccuracyMeter { hits, loss: WeightedMean::default(), confusion: Confusion::new(classes) })
    }

    fn best(&self) -> (&'static str, bool) {
        ("top1", true)
    }
}

convmae_framework::register!(Evaluator: Accuracy);

/// Means over images.
#[derive(Serialize, Deserialize)]
struct AccuracyMeter {
    /// In percent, by `k`.
    hits: BTreeMap<usize, WeightedMean>,
    loss: WeightedMean,
    confusion: Confusion,
}

impl Meter for AccuracyMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Predictions([Prediction::Logits(Logits { values, classes }), ..]) = measured else {
            return Err(MeterError::NotNeeded);
        };
        let images = batch.ids.iter().zip(&batch.targets);
        let rows = values.chunks_exact(*classes).zip(log_sums(values, *classes)).zip(images);
        for ((logits, log_sum), (image, target)) in rows {
            let no_class = || MeterError::NoTarget { image: image.clone(), what: "class" };
            let class = target.class.ok_or_else(no_class)?;
            let rank = rank(logits, class);
            let is_number = logits.iter().all(|logit| !logit.is_nan());
            self.confusion.add(class, is_number.then(|| argmax(logits)));
            for (&k, hits) in &mut self.hits {
                hits.add(if rank.is_some_and(|rank| rank < k) { 100.0 } else { 0.0 }, 1);
            }
            // A class that the head does not know has no probability.
            let logit = logits.get(class).map_or(f64::NEG_INFINITY, |&logit| f64::from(logit));
            self.loss.add(log_sum - logit, 1);
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        state::write(self)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        let other: Self = state::read(state)?;
        for (k, hits) in other.hits {
            self.hits.entry(k).or_default().merge(&hits);
        }
        self.loss.merge(&other.loss);
        self.confusion.merge(&other.confusion);
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        let hits = self.hits.iter().map(|(k, hits)| (format!("top{k}"), hits.mean()));
        let means = hits.chain([("loss".to_owned(), self.loss.mean())]);
        means.filter_map(|(name, mean)| Some((name, mean?))).collect()
    }

    fn classes(&self) -> Vec<ClassFigures> {
        self.confusion.figures()
    }

    fn confusion(&self) -> Option<Confusion> {
        Some(self.confusion.clone())
    }
}

/// How many classes come before `class`; none if it is unknown or a logit is not a number.
fn rank(logits: &[f32], class: usize) -> Option<usize> {
    let own = *logits.get(class)?;
    if logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let is_before = |(other, logit): &(usize, &f32)| **logit > own || **logit == own && *other < class;
    Some(logits.iter().enumerate().filter(is_before).count())
}

#[cfg(test)]
mod tests {
    use convmae_framework::data::{Normalization, Target};
    use proptest::prelude::*;

    use super::*;

    fn batch(classes: &[Option<usize>]) -> Batch {
        Batch::new(
            Vec::new(),
            (0, 0),
            Normalization::identity(3),
            classes.iter().map(|&class| Target { class, ..Target::default() }).collect(),
            vec![String::new(); classes.len()],
        )
    }

    fn logits(values: &[f32], classes: usize) -> Prediction {
        Prediction::Logits(Logits { values: values.to_vec(), classes })
    }

    /// The metrics of images in batches of a size.
    fn metrics(topk: &[usize], logits: &[f32], labels: &[Option<usize>], size: usize) -> Vec<(String, f64)> {
        let classes = logits.len() / labels.len();
        let mut meter = Accuracy { topk: topk.to_vec() }.meter(&[]);
        for (logits, labels) in logits.chunks(size * classes).zip(labels.chunks(size)) {
            let measured = self::logits(logits, classes);
            meter.update(Measured::Predictions(&[&measured]), &batch(labels)).unwrap();
        }
        meter.finish()
    }

    fn of<'a>(metrics: &'a [(String, f64)], name: &str) -> Option<&'a f64> {
        metrics.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    #[test]
    fn a_class_counts_where_it_is_among_the_likeliest() {
        let logits = [0.1, 0.7, 0.2, 0.5, 0.4, 0.1, 0.3, 0.2, 0.1, 3.0, 2.0, 1.0];
        let labels = [Some(1), Some(1), Some(2), Some(0)];
        let found = metrics(&[2], &logits, &labels, 4);
        assert_eq!((of(&found, "top1"), of(&found, "top2")), (Some(&50.0), Some(&75.0)));
        assert_eq!(of(&metrics(&[5], &logits, &labels, 4), "top5"), Some(&100.0));
    }

    #[test]
    fn the_loss_is_the_mean_negative_log_probability() {
        let found = metrics(&[1], &[0.0, 0.0, 3.0_f32.ln(), 0.0], &[Some(0), Some(0)], 2);
        let expected = f64::midpoint(2.0_f64.ln(), (4.0_f64 / 3.0).ln());
        assert!((found[1].1 - expected).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn of_equal_logits_the_lower_index_comes_first() {
        let found = metrics(&[2], &[1.0; 9], &[Some(0), Some(1), Some(2)], 3);
        assert!((found[0].1 - 100.0 / 3.0).abs() < 1e-9 && (found[1].1 - 200.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_a_number_is_never_right() {
        for logits in [[f32::NAN, 1.0], [2.0, f32::NAN], [f32::NAN; 2]] {
            let found = metrics(&[1, 5], &logits, &[Some(0)], 1);
            assert_eq!((of(&found, "top1"), of(&found, "top5")), (Some(&0.0), Some(&0.0)));
        }
    }

    #[test]
    fn unknown_classes_are_wrong() {
        let logits = [2.0, 1.0, 2.0, 1.0];
        assert_eq!(of(&metrics(&[5], &logits, &[Some(0), Some(7)], 2), "top5"), Some(&50.0));
    }

    #[test]
    fn an_image_without_a_class_is_named() {
        let mut batch = batch(&[Some(0), None]);
        batch.ids = vec!["a.jpg".to_owned(), "b.jpg".to_owned()];
        let mut meter = Accuracy { topk: vec![1] }.meter(&[]);
        let found = logits(&[2.0, 1.0, 2.0, 1.0], 2);
        let error = meter.update(Measured::Predictions(&[&found]), &batch).unwrap_err();
        assert!(error.to_string().starts_with("b.jpg: the image has no class"), "{error}");
    }

    #[test]
    fn classes_are_told_apart_by_their_largest_logit() {
        let names = ["cat", "dog"].map(str::to_owned);
        let mut meter = Accuracy { topk: vec![1] }.meter(&names);
        let found = logits(&[2.0, 1.0, 1.0, 1.0, 0.0, 1.0, f32::NAN, 1.0], 2);
        meter
            .update(Measured::Predictions(&[&found]), &batch(&[Some(0), Some(1), Some(1), Some(1)]))
            .unwrap();
        let confusion = meter.confusion().unwrap();
        let pairs = [((0, Some(0)), 1), ((1, None), 1), ((1, Some(0)), 1), ((1, Some(1)), 1)];
        assert_eq!(confusion.counts, pairs.into());
        assert_eq!((confusion.label(1).as_str(), meter.classes()[1].class.as_str()), ("dog", "dog"));
        let mut twice = Accuracy { topk: vec![1] }.meter(&names);
        twice.merge(&meter.state()).unwrap();
        twice.merge(&meter.state()).unwrap();
        assert_eq!(twice.confusion().unwrap().counts[&(1, None)], 2);
    }

    #[test]
    fn the_first_head_counts() {
        let mut meter = Accuracy { topk: vec![1] }.meter(&[]);
        let (first, second) = (logits(&[1.0, 0.0], 2), logits(&[0.0, 1.0], 2));
        meter.update(Measured::Predictions(&[&first, &second]), &batch(&[Some(0)])).unwrap();
        assert_eq!(of(&meter.finish(), "top1"), Some(&100.0));
    }

    #[test]
    fn what_is_not_needed_is_refused() {
        let mut meter = Accuracy { topk: vec![1] }.meter(&[]);
        let update = meter.update(Measured::Losses(&[]), &batch(&[Some(0)]));
        assert_eq!(update, Err(MeterError::NotNeeded));
    }

    proptest! {
        #[test]
        fn batches_change_nothing(
            images in prop::collection::vec((prop::array::uniform4(-3.0_f32..3.0), 0_usize..4), 1..40),
            size in 1_usize..9,
        ) {
            let logits: Vec<f32> = images.iter().flat_map(|(logits, _)| *logits).collect();
            let labels: Vec<_> = images.iter().map(|&(_, label)| Some(label)).collect();
            let whole = metrics(&[1, 2], &logits, &labels, labels.len());
            prop_assert_eq!(metrics(&[1, 2], &logits, &labels, size), whole);
        }

        /// To the bit where sums are exact: those of hits are, those of logarithms are not.
        #[test]
        fn merged_halves_equal_the_whole(
            images in prop::collection::vec((prop::array::uniform4(-3.0_f32..3.0), 0_usize..4), 1..40),
            at in 0_usize..40,
        ) {
            let meter = |images: &[([f32; 4], usize)]| {
                let mut meter = Accuracy { topk: vec![2] }.meter(&[]);
                let values: Vec<f32> = images.iter().flat_map(|(logits, _)| *logits).collect();
                let labels: Vec<_> = images.iter().map(|&(_, label)| Some(label)).collect();
                meter.update(Measured::Predictions(&[&logits(&values, 4)]), &batch(&labels)).unwrap();
                meter
            };
            let (first, second) = images.split_at(at.min(images.len()));
            let mut merged = meter(first);
            merged.merge(&meter(second).state()).unwrap();
            let (merged, whole) = (merged.finish(), meter(&images).finish());
            prop_assert_eq!(&merged[..2], &whole[..2]);
            prop_assert!((merged[2].1 - whole[2].1).abs() < 1e-12, "{:?} {:?}", merged, whole);
        }
    }
}
