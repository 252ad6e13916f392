//! How well the features tell classes apart, without training: the vote of the nearest neighbours.

use convmae_framework::component::{
    Dataset, Evaluator, FeatureNeeds, Measured, Meter, MeterError, Needs, Pooling, Support, optional_slot,
};
use convmae_framework::data::Batch;
use convmae_framework::metrics::{WeightedMean, state};
use convmae_framework::nn::cpu::Output;
use convmae_framework::nn::cpu::gemm::{Matrix, Threads, gemm};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of validation images, in percent, whose class gets the most votes of the nearest images of a support set, or is
/// among the five that get the most (`knn_top1`, `knn_top5`). For the usual curve of a pretraining run: no head is needed, and
/// nothing is trained.
///
/// As in instance discrimination (Wu et al. 2018) and DINO (`eval_knn.py`): nearest by the cosine of features, and a vote of
/// `exp(cosine / temperature)`. The features are those of whole images, without masks, prepared by the transforms of
/// `data.val`, and computed anew at every evaluation; those of the support set are kept in memory meanwhile. Of equal cosines the
/// image that comes first in the support set is nearer, of classes with equal votes the one with the lower index is first.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnnAccuracy {
    /// Nearest images that vote; all if the support set has fewer.
    #[schemars(range(min = 1))]
    pub k: usize,
    /// The lower, the more the nearest of them count.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub temperature: f64,
    /// The features: a backbone or a neck, or one of its levels, as in `backbone.s2`; the last level of the last one if
    /// left out.
    pub level: Option<String>,
    /// What of a level stands for an image.
    pub pooling: Pooling,
    /// The images that vote, such as a `Subset` of a large training set; those of `data.train` if left out, without its
    /// transforms.
    #[schemars(schema_with = "optional_slot::<Box<dyn Dataset>>")]
    pub support: Option<Box<dyn Dataset>>,
}

impl Default for KnnAccuracy {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07, level: None, pooling: Pooling::default(), support: None }
    }
}

#[typetag::serde]
impl Evaluator for KnnAccuracy {
    fn needs(&self) -> Needs {
        Needs::Features
    }

    fn features(&self) -> FeatureNeeds<'_> {
        FeatureNeeds { level: self.level.as_deref(), pooling: self.pooling, support: self.support.as_deref() }
    }

    fn meter(&self, _: &[String]) -> Box<dyn Meter> {
        let vote = Vote { k: self.k, temperature: self.temperature };
        Box::new(KnnMeter { vote, top1: WeightedMean::default(), top5: WeightedMean::default() })
    }

    fn best(&self) -> (&'static str, bool) {
        ("knn_top1", true)
    }
}

convmae_framework::register!(Evaluator: KnnAccuracy);

/// Means over images, in percent.
#[derive(Serialize, Deserialize)]
struct KnnMeter {
    vote: Vote,
    top1: WeightedMean,
    top5: WeightedMean,
}

/// How neighbours vote.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Vote {
    k: usize,
    temperature: f64,
}

impl Meter for KnnMeter {
    fn update(&mut self, measured: Measured<'_>, batch: &Batch) -> Result<(), MeterError> {
        let Measured::Features { features, support } = measured else { return Err(MeterError::NotNeeded) };
        let classes = support.classes.iter().max().map_or(0, |last| last + 1);
        let votes = similarities(features, support, batch.len())
            .par_chunks_exact(support.classes.len().max(1))
            .map(|cosines| self.vote.of(cosines, &support.classes, classes))
            .collect::<Vec<_>>();
        for ((image, target), votes) in batch.ids.iter().zip(&batch.targets).zip(votes) {
            let no_class = || MeterError::NoTarget { image: image.clone(), what: "class" };
            let class = target.class.ok_or_else(no_class)?;
            let rank = rank(&votes, class);
            for (mean, k) in [(&mut self.top1, 1), (&mut self.top5, 5)] {
                mean.add(if rank.is_some_and(|rank| rank < k) { 100.0 } else { 0.0 }, 1);
            }
        }
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        state::write(self)
    }

    fn merge(&mut self, state: &[u8]) -> Result<(), MeterError> {
        let other: Self = state::read(state)?;
        self.top1.merge(&other.top1);
        self.top5.merge(&other.top5);
        Ok(())
    }

    fn finish(&self) -> Vec<(String, f64)> {
        let means = [("knn_top1", self.top1.mean()), ("knn_top5", self.top5.mean())];
        means.into_iter().filter_map(|(name, mean)| Some((name.to_owned(), mean?))).collect()
    }
}

/// The cosines of `images` features and those of the support set, `[B, S]`.
fn similarities(features: &[f32], support: &Support, images: usize) -> Vec<f32> {
    let (of, channels) = (support.classes.len(), features.len() / images.max(1));
    let mut cosines = vec![0.0; images * of];
    let images = Matrix::new(features, images, channels);
    let support = Matrix::new(&support.features, of, channels).t();
    gemm(&mut cosines, Output::Replace, 1.0, images, support, Threads::All);
    cosines
}

impl Vote {
    /// The votes of the nearest for each class.
    fn of(self, cosines: &[f32], of_support: &[usize], classes: usize) -> Vec<f64> {
        let mut nearest: Vec<usize> = (0..cosines.len()).collect();
        let order = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
        if self.k < nearest.len() {
            nearest.select_nth_unstable_by(self.k, order);
            nearest.truncate(self.k);
        }
        // Sums have the same bits whatever the selection did to the order.
        nearest.sort_unstable_by(order);
        let mut votes = vec![0.0; classes];
        for at in nearest {
            votes[of_support[at]] += (f64::from(cosines[at]) / self.temperature).exp();
        }
        votes
    }
}

/// How many classes get more votes; none if nobody votes for it.
fn rank(votes: &[f64], class: usize) -> Option<usize> {
    let own = *votes.get(class).filter(|votes| **votes > 0.0)?;
    let is_before = |(other, votes): &(usize, &f64)| **votes > own || **votes == own && *other < class;
    Some(votes.iter().enumerate().filter(is_before).count())
}

#[cfg(test)]
mod tests {
    use convmae_framework::data::{Normalization, Target};
    use proptest::prelude::*;

    use super::*;

    fn batch(classes: &[usize]) -> Batch {
        Batch::new(
            Vec::new(),
            (0, 0),
            Normalization::identity(3),
            classes.iter().map(|&class| Target { class: Some(class), ..Target::default() }).collect(),
            vec![String::new(); classes.len()],
        )
    }

    /// Features of length 1 in the plane, by their angles in degrees.
    fn features(angles: &[f32]) -> Vec<f32> {
        angles.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]).collect()
    }

    fn metrics(knn: &KnnAccuracy, support: &Support, angles: &[f32], classes: &[usize]) -> [f64; 2] {
        let mut meter = knn.meter(&[]);
        let measured = Measured::Features { features: &features(angles), support };
        meter.update(measured, &batch(classes)).unwrap();
        let [(_, top1), (_, top5)] = &meter.finish()[..] else { panic!("two figures") };
        [*top1, *top5]
    }

    /// One image of class 0 is nearest, two of class 1 are a little farther.
    #[test]
    fn the_temperature_decides_between_the_nearest_and_the_many() {
        let support = Support { features: features(&[0.0, 30.0, -30.0, 180.0]), classes: vec![0, 1, 1, 2] };
        let of = |k, temperature, class| {
            metrics(&KnnAccuracy { k, temperature, ..KnnAccuracy::default() }, &support, &[0.0], &[class])
        };
        // exp(1 / T) against 2 exp(cos(30) / T): equal at T = (1 - cos(30)) / ln(2) = 0.193.
        assert_eq!(of(3, 0.18, 0), [100.0, 100.0]);
        assert_eq!(of(3, 0.20, 0), [0.0, 100.0]);
        assert_eq!(of(3, 0.20, 1), [100.0, 100.0]);
        assert_eq!(of(1, 0.20, 0), [100.0, 100.0], "a single neighbour decides alone");
        assert_eq!(of(3, 0.20, 2), [0.0, 0.0], "nobody votes for class 2");
        assert_eq!(of(9, 0.20, 2), [0.0, 100.0], "fewer than k vote");
    }

    #[test]
    fn of_equal_ones_the_first_counts() {
        let support = Support { features: features(&[90.0, -90.0]), classes: vec![1, 0] };
        let knn = |k| KnnAccuracy { k, ..KnnAccuracy::default() };
        let exact = Support { features: vec![0.0, 1.0, 0.0, -1.0], ..support };
        assert_eq!(metrics(&knn(1), &exact, &[0.0], &[1])[0], 100.0, "the first image of the support set");
        assert_eq!(metrics(&knn(2), &exact, &[0.0], &[0])[0], 100.0, "the lower class");
    }

    #[test]
    fn an_image_without_a_class_is_named() {
        let support = Support { features: features(&[0.0]), classes: vec![0] };
        let mut unlabelled = batch(&[0]);
        (unlabelled.targets[0].class, unlabelled.ids[0]) = (None, "a.jpg".to_owned());
        let measured = Measured::Features { features: &[1.0, 0.0], support: &support };
        let error = KnnAccuracy::default().meter(&[]).update(measured, &unlabelled).unwrap_err();
        assert!(error.to_string().starts_with("a.jpg: the image has no class"), "{error}");
    }

    /// The definition, image by image: sort everything, and let the first k vote.
    fn brute_force(knn: &KnnAccuracy, support: &Support, image: &[f32]) -> Vec<f64> {
        let cosine = |other: &[f32]| -> f64 {
            image.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let mut all: Vec<_> =
            support.features.chunks_exact(image.len()).map(cosine).zip(&support.classes).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = vec![0.0; 4];
        all[..knn.k].iter().for_each(|(cosine, class)| votes[**class] += (cosine / knn.temperature).exp());
        votes
    }

    proptest! {
        #[test]
        fn votes_are_those_of_the_definition(
            support in prop::collection::vec((prop::array::uniform3(-1.0_f32..1.0), 0_usize..4), 8..60),
            images in prop::collection::vec(prop::array::uniform3(-1.0_f32..1.0), 1..8),
            k in 1_usize..8,
        ) {
            let unit = |vector: &[f32; 3]| {
                let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-3);
                vector.map(|value| value / length)
            };
            let support = Support {
                features: support.iter().flat_map(|(vector, _)| unit(vector)).collect(),
                classes: support.iter().map(|(_, class)| *class).collect(),
            };
            let features: Vec<f32> = images.iter().flat_map(unit).collect();
            let knn = KnnAccuracy { k, temperature: 0.1, ..KnnAccuracy::default() };
            let cosines = similarities(&features, &support, images.len());
            for (image, cosines) in features.chunks_exact(3).zip(cosines.chunks_exact(support.classes.len())) {
                let found = Vote { k, temperature: 0.1 }.of(cosines, &support.classes, 4);
                let expected = brute_force(&knn, &support, image);
                for (found, expected) in found.iter().zip(&expected) {
                    // A cosine of f32 is off by 1e-7, its vote by 1e-6 of it; a tie at the k-th place by less.
                    prop_assert!((found - expected).abs() <= 1e-4 * expected.max(1.0), "{found} {expected}");
                }
            }
        }

        #[test]
        fn merged_halves_equal_the_whole(angles in prop::collection::vec(0.0_f32..360.0, 2..20), at in 1_usize..19) {
            let support = Support { features: features(&[0.0, 120.0, 240.0]), classes: vec![0, 1, 2] };
            let classes: Vec<usize> = (0..angles.len()).map(|at| at % 3).collect();
            let meter = |from: usize, to: usize| {
                let mut meter = KnnAccuracy::default().meter(&[]);
                let features = features(&angles[from..to]);
                let measured = Measured::Features { features: &features, support: &support };
                meter.update(measured, &batch(&classes[from..to])).unwrap();
                meter
            };
            let at = at.min(angles.len() - 1);
            let mut merged = meter(0, at);
            merged.merge(&meter(at, angles.len()).state()).unwrap();
            prop_assert_eq!(merged.finish(), meter(0, angles.len()).finish());
        }
    }
}
