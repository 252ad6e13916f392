//! What anchors and proposals are to predict (`label_and_sample_anchors` and `label_and_sample_proposals` of detectron2).

use convmae_framework::data::Target;
use convmae_framework::nn::{Context, Error, Result};
use convmae_framework::random::Rng;

use super::box_coder::Box2BoxTransform;
use super::boxes::pairwise_iou;
use super::losses::{AnchorTargets, RoiTarget};
use super::matcher::{Match, Matcher};
use super::sampler::{Sampled, subsample_labels};

/// Assigns boxes to the ground truth and draws those that count.
#[derive(Debug, Clone)]
pub struct LabelAndSample {
    /// How boxes are assigned.
    pub matcher: Matcher,
    /// Boxes of an image that count at most.
    pub batch_size_per_image: usize,
    /// The part of them that is positive at most.
    pub positive_fraction: f64,
}

/// The objects of an image that heads learn: those that are no crowd.
#[derive(Debug, Clone, Default)]
pub struct GroundTruth {
    /// Their boxes.
    pub boxes: Vec<[f32; 4]>,
    /// Indices of their classes.
    pub classes: Vec<u32>,
    /// Their indices among all objects of the target.
    pub indices: Vec<usize>,
}

impl GroundTruth {
    /// That of a target.
    pub fn of(target: &Target) -> Self {
        let objects = &target.instances;
        let is_crowd = |at: usize| objects.crowd.get(at).copied().unwrap_or(false);
        let indices: Vec<_> = (0..objects.len()).filter(|&at| !is_crowd(at)).collect();
        Self {
            boxes: indices.iter().map(|&at| objects.boxes[at]).collect(),
            classes: indices.iter().map(|&at| objects.classes[at]).collect(),
            indices,
        }
    }
}

/// The proposals of an image that count: positive ones, then negative ones.
#[derive(Debug, Clone, Default)]
pub struct SampledProposals {
    /// Their boxes.
    pub boxes: Vec<[f32; 4]>,
    /// What they are to predict.
    pub targets: Vec<RoiTarget>,
    /// Of each positive one, the index of its ground truth among all objects of the target.
    pub gts: Vec<usize>,
}

/// How boxes are drawn.
#[derive(Debug)]
pub enum Draw<'a> {
    /// At random.
    Random(&'a mut Rng),
    /// These.
    Given(Sampled),
}

impl<'a> Draw<'a> {
    /// What the pass was given for an image as `<head>_sampled_pos_<image>` and `<head>_sampled_neg_<image>`, indices of `boxes`
    /// boxes each; at random if it was given neither.
    ///
    /// # Errors
    /// If there are not so many boxes, or one of the two is missing.
    pub fn of(ctx: &Context, head: &str, image: usize, boxes: usize, rng: &'a mut Rng) -> Result<Self> {
        let name = |sign: &str| format!("{head}_sampled_{sign}_{image}");
        let [positive, negative] = ["pos", "neg"].map(|sign| ctx.given(&name(sign)));
        let (positive, negative) = match (positive, negative) {
            (None, None) => return Ok(Self::Random(rng)),
            (Some(positive), Some(negative)) => (positive, negative),
            _ => {
                let (positive, negative) = (name("pos"), name("neg"));
                return Err(Error::Value(format!(
                    "`{positive}` and `{negative}` belong together: one is missing"
                )));
            }
        };
        let indices = |sign: &str, values: &[f32]| -> Result<Vec<_>> {
            let index = |&value: &f32| match value {
                0.0.. if value.fract() == 0.0 && (value as usize) < boxes => Ok(value as usize),
                _ => Err(Error::Value(format!("`{}` holds {value}; there are {boxes} boxes", name(sign)))),
            };
            let mut indices = values.iter().map(index).collect::<Result<Vec<_>>>()?;
            indices.sort_unstable();
            Ok(indices)
        };
        Ok(Self::Given(Sampled { positive: indices("pos", positive)?, negative: indices("neg", negative)? }))
    }
}

impl LabelAndSample {
    /// The targets of the anchors of an image with these objects.
    pub fn anchors(
        &self,
        anchors: &[[f32; 4]],
        gts: &[[f32; 4]],
        coder: &Box2BoxTransform,
        draw: Draw<'_>,
    ) -> AnchorTargets {
        let (matches, sampled) = self.sample(anchors, gts, draw);
        let deltas = |&anchor: &usize| coder.get_deltas(anchors[anchor], gts[matches[anchor].gt]);
        let gt_deltas = sampled.positive.iter().map(deltas).collect();
        AnchorTargets { sampled, gt_deltas }
    }

    /// The targets of the proposals of an image.
    pub fn proposals(
        &self,
        proposals: &[[f32; 4]],
        gts: &GroundTruth,
        coder: &Box2BoxTransform,
        draw: Draw<'_>,
    ) -> SampledProposals {
        let (matches, Sampled { positive, negative }) = self.sample(proposals, &gts.boxes, draw);
        let gt_of = |&proposal: &usize| matches[proposal].gt;
        let object = |proposal: &usize| RoiTarget {
            class: Some(gts.classes[gt_of(proposal)]),
            gt_deltas: coder.get_deltas(proposals[*proposal], gts.boxes[gt_of(proposal)]),
        };
        let background = negative.iter().map(|_| RoiTarget { class: None, gt_deltas: [0.0; 4] });
        SampledProposals {
            boxes: positive.iter().chain(&negative).map(|&proposal| proposals[proposal]).collect(),
            targets: positive.iter().map(object).chain(background).collect(),
            gts: positive.iter().map(|proposal| gts.indices[gt_of(proposal)]).collect(),
        }
    }

    fn sample(&self, boxes: &[[f32; 4]], gts: &[[f32; 4]], draw: Draw<'_>) -> (Vec<Match>, Sampled) {
        let matches = self.matcher.matches(&pairwise_iou(gts, boxes), boxes.len());
        let sampled = match draw {
            Draw::Given(sampled) => sampled,
            Draw::Random(rng) => {
                let labels: Vec<_> = matches.iter().map(|of_box| of_box.label).collect();
                subsample_labels(&labels, self.batch_size_per_image, self.positive_fraction, rng)
            }
        };
        (matches, sampled)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::random::{self, Purpose};

    use super::super::matcher::Label;
    use super::super::testing::{Golden, anchors, assert_near};
    use super::*;

    fn rng() -> Rng {
        random::stream(Purpose::Image, &[1])
    }

    fn rpn() -> LabelAndSample {
        let thresholds = vec![(0.3, Label::Ignored), (0.7, Label::Positive)];
        let matcher = Matcher { below: Label::Negative, thresholds, allow_low_quality_matches: true };
        LabelAndSample { matcher, batch_size_per_image: 256, positive_fraction: 0.5 }
    }

    /// Takes so many proposals, objects or not.
    fn roi(batch_size_per_image: usize) -> LabelAndSample {
        let thresholds = vec![(0.5, Label::Positive)];
        let matcher = Matcher { below: Label::Negative, thresholds, allow_low_quality_matches: false };
        LabelAndSample { matcher, batch_size_per_image, positive_fraction: 1.0 }
    }

    #[test]
    fn as_many_anchors_count_as_in_detectron2_and_all_positive_ones_if_these_are_few() {
        let (golden, anchors) = (Golden::read("rpn_train"), anchors());
        let coder = Box2BoxTransform::new([1.0; 4]);
        for image in 0..2 {
            let part = |name: &str| format!("{name}_{image}");
            let gts = golden.boxes(&part("gt_boxes"));
            let AnchorTargets { sampled, gt_deltas } =
                rpn().anchors(&anchors, &gts, &coder, Draw::Random(&mut rng()));
            let mut positive = golden.indices(&part("sampled_pos_idx"));
            positive.sort_unstable();
            assert_eq!(sampled.positive, positive);
            assert_eq!(sampled.negative.len(), golden.indices(&part("sampled_neg_idx")).len());
            let matched = golden.indices(&part("matched_gt_idx"));
            for (&anchor, deltas) in positive.iter().zip(gt_deltas) {
                let back = coder.apply_deltas(anchors[anchor], deltas);
                assert_near("ground truth", &back, &gts[matched[anchor]], 1e-5);
            }
        }
    }

    #[test]
    fn proposals_are_of_the_classes_of_detectron2() {
        let (golden, rpn) = (Golden::read("roi_train"), Golden::read("rpn_train"));
        let coder = Box2BoxTransform::new([10.0, 10.0, 5.0, 5.0]);
        for image in 0..2 {
            let part = |name: &str| format!("{name}_{image}");
            let (proposals, gts) = (golden.boxes(&part("proposals_with_gt")), rpn.boxes(&part("gt_boxes")));
            let classes: Vec<_> =
                rpn.indices(&part("gt_classes")).into_iter().map(|class| class as u32).collect();
            let indices = (0..gts.len()).collect();
            let truth = GroundTruth { boxes: gts.clone(), classes, indices };
            let own = roi(proposals.len()).proposals(&proposals, &truth, &coder, Draw::Random(&mut rng()));
            let expected = golden.indices(&part("class_labels_before_sampling"));
            let matched = golden.indices(&part("matched_gt_idx"));
            let (objects, background): (Vec<_>, Vec<_>) =
                (0..proposals.len()).partition(|&proposal| expected[proposal] < 5);
            let order = objects.iter().chain(&background);
            assert_eq!(own.boxes, order.clone().map(|&at| proposals[at]).collect::<Vec<_>>());
            let own_classes = own.targets.iter().map(|target| target.class.map_or(5, |class| class as usize));
            assert!(own_classes.eq(order.map(|&at| expected[at])));
            assert_eq!(own.gts, objects.iter().map(|&at| matched[at]).collect::<Vec<_>>());
            for (target, &at) in own.targets.iter().zip(&objects) {
                let back = coder.apply_deltas(proposals[at], target.gt_deltas);
                assert_near("ground truth", &back, &gts[matched[at]], 1e-5);
            }
        }
    }

    #[test]
    fn without_objects_everything_is_background() {
        let (boxes, coder) = ([[0.0, 0.0, 4.0, 4.0]; 3], Box2BoxTransform::new([1.0; 4]));
        let targets = rpn().anchors(&boxes, &[], &coder, Draw::Random(&mut rng()));
        assert_eq!((targets.sampled.negative, targets.gt_deltas.len()), (vec![0, 1, 2], 0));
        let sampled = roi(2).proposals(&boxes, &GroundTruth::default(), &coder, Draw::Random(&mut rng()));
        assert_eq!((sampled.boxes.len(), sampled.gts.len()), (2, 0));
        assert!(sampled.targets.iter().all(|target| target.class.is_none()));
    }
}
