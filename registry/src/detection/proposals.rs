//! What the region proposal network hands on (`detectron2.modeling.proposal_generator.proposal_utils`).

use convmae_framework::component::Regions;
use convmae_framework::data::boxes::{clip, nonempty};
use convmae_framework::nn::{Error, Result};

use super::box_coder::Box2BoxTransform;
use super::nms::batched_nms;

/// What is predicted at the anchors of one level of one image.
#[derive(Debug, Clone, Copy)]
pub struct LevelPredictions<'a> {
    /// The anchors, `[N]`.
    pub anchors: &'a [[f32; 4]],
    /// Whether they hold an object, `[N]`.
    pub logits: &'a [f32],
    /// Where it is, `[N]`.
    pub deltas: &'a [[f32; 4]],
}

/// How many boxes are proposed.
#[derive(Debug, Clone, Copy)]
pub struct ProposalSelection {
    /// Boxes of a level that are looked at: those with the largest logits.
    pub pre_nms_topk: usize,
    /// Boxes of an image that are left in the end.
    pub post_nms_topk: usize,
    /// IoU above which the better of two boxes of a level suppresses the other.
    pub nms_thresh: f64,
}

impl ProposalSelection {
    /// The proposals of an image of a height and a width, with their logits, best first. Boxes of no finite numbers are dropped.
    ///
    /// # Errors
    /// If there are some in training: it has diverged.
    pub fn find_top_rpn_proposals(
        &self,
        levels: &[LevelPredictions<'_>],
        coder: &Box2BoxTransform,
        image: [usize; 2],
        training: bool,
    ) -> Result<Regions> {
        let (mut boxes, mut logits, mut level_ids) = (Vec::new(), Vec::new(), Vec::new());
        for (level, predictions) in levels.iter().enumerate() {
            for at in top(predictions.logits, self.pre_nms_topk) {
                let bbox = coder.apply_deltas(predictions.anchors[at], predictions.deltas[at]);
                let logit = predictions.logits[at];
                if !(logit.is_finite() && bbox.iter().all(|side| side.is_finite())) {
                    if training {
                        let message = "predicted boxes or logits are infinite or NaN: training has diverged";
                        return Err(Error::Value(message.into()));
                    }
                    continue;
                }
                let bbox = clip(bbox, image);
                if nonempty(bbox, 0.0) {
                    boxes.push(bbox);
                    logits.push(logit);
                    level_ids.push(level);
                }
            }
        }
        let mut kept = batched_nms(&boxes, &logits, &level_ids, self.nms_thresh);
        kept.truncate(self.post_nms_topk);
        Ok(Regions { boxes, scores: logits, ..Regions::default() }.select(&kept))
    }
}

/// Indices of the `count` largest values, largest first; of equal ones the lower index first.
fn top(values: &[f32], count: usize) -> Vec<usize> {
    let order = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    let mut indices: Vec<usize> = (0..values.len()).collect();
    if count < indices.len() {
        indices.select_nth_unstable_by(count, order);
        indices.truncate(count);
    }
    indices.sort_unstable_by(order);
    indices
}

#[cfg(test)]
mod tests {
    use super::super::anchors::AnchorGenerator;
    use super::super::testing::{Golden, assert_near};
    use super::*;

    /// Of each level anchors, logits, deltas.
    type Level = (Vec<[f32; 4]>, Vec<f32>, Vec<[f32; 4]>);

    fn find(selection: ProposalSelection, levels: &[Level], image: [usize; 2]) -> Regions {
        let levels = levels.iter();
        let levels = levels.map(|(anchors, logits, deltas)| LevelPredictions { anchors, logits, deltas });
        let coder = Box2BoxTransform::new([1.0; 4]);
        selection.find_top_rpn_proposals(&levels.collect::<Vec<_>>(), &coder, image, true).unwrap()
    }

    #[test]
    fn proposals_are_those_of_detectron2() {
        let (golden, anchors) = (Golden::read("rpn_train"), Golden::read("anchors"));
        let selection = ProposalSelection { pre_nms_topk: 200, post_nms_topk: 100, nms_thresh: 0.7 };
        let levels: Vec<_> = (2..7)
            .map(|level| {
                let part = |name: &str| format!("{name}_p{level}");
                (
                    anchors.boxes(&part("anchors")),
                    golden.floats(&part("logits")),
                    golden.boxes(&part("deltas")),
                )
            })
            .collect();
        for image in 0..2 {
            let of_image = |(anchors, logits, deltas): &Level| {
                let own = image * anchors.len()..(image + 1) * anchors.len();
                (anchors.clone(), logits[own.clone()].to_vec(), deltas[own].to_vec())
            };
            let levels: Vec<_> = levels.iter().map(of_image).collect();
            let own = find(selection, &levels, [256; 2]);
            let part = |name: &str| format!("{name}_{image}");
            assert_eq!(own.scores, golden.floats(&part("proposal_logits")));
            assert_near("boxes", own.boxes.as_flattened(), &golden.floats(&part("proposals")), 1e-5);
        }
    }

    #[test]
    fn boxes_end_where_the_own_image_does_in_a_padded_batch() {
        let golden = Golden::read("vitdet/detections");
        let sizes = [32_u16, 64, 128, 256, 512].map(|size| (vec![f64::from(size)], usize::from(size / 8)));
        let generator = AnchorGenerator::new(&sizes, &[0.5, 1.0, 2.0], 0.0);
        let selection = ProposalSelection { pre_nms_topk: 100, post_nms_topk: 80, nms_thresh: 0.7 };
        for (image, size) in [[192, 144], [136, 192]].into_iter().enumerate() {
            let levels = [48, 24, 12, 6, 3].into_iter().enumerate().map(|(level, side)| {
                let anchors = generator.grid_anchors(level, [side; 2]);
                let own = image * anchors.len()..(image + 1) * anchors.len();
                let part = |name: &str| format!("rpn_{name}_p{}", level + 2);
                let (logits, deltas) = (golden.floats(&part("logits")), golden.boxes(&part("deltas")));
                (anchors, logits[own.clone()].to_vec(), deltas[own].to_vec())
            });
            let levels: Vec<_> = levels.collect();
            let own = find(selection, &levels, size);
            assert_eq!(own.scores, golden.floats(&format!("proposal_logits_{image}")));
            let expected = golden.floats(&format!("proposals_{image}"));
            assert_near("boxes", own.boxes.as_flattened(), &expected, 1e-5);
        }
    }

    #[test]
    fn what_is_not_finite_is_an_error_in_training_and_dropped_elsewhere() {
        let anchors = [[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]];
        let selection = ProposalSelection { pre_nms_topk: 5, post_nms_topk: 5, nms_thresh: 0.5 };
        for (logit, delta) in [(f32::NAN, 0.0), (0.0, f32::INFINITY)] {
            let (logits, deltas) = ([logit, 1.0], [[delta; 4], [0.0; 4]]);
            let level = LevelPredictions { anchors: &anchors, logits: &logits, deltas: &deltas };
            let find = |training| {
                let coder = Box2BoxTransform::new([1.0; 4]);
                selection.find_top_rpn_proposals(&[level], &coder, [8, 6], training)
            };
            assert!(matches!(find(true), Err(Error::Value(_))));
            assert_eq!(find(false).unwrap().boxes, [[4.0, 4.0, 6.0, 8.0]]);
        }
    }

    #[test]
    fn the_largest_come_first_and_of_equal_ones_the_first() {
        assert_eq!(top(&[1.0, 3.0, 3.0, 2.0, 3.0], 2), [1, 2]);
        assert_eq!(top(&[1.0, 3.0], 5), [1, 0]);
    }
}
