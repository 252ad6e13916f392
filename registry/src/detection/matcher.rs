//! Which ground truth a box is to predict (`detectron2.modeling.matcher.Matcher`).

/// Assigns boxes to the ground truth that they overlap most.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Of boxes below the first threshold.
    pub below: Label,
    /// Overlaps from which on a box has another label, ascending.
    pub thresholds: Vec<(f32, Label)>,
    /// Whether the boxes that overlap a ground truth most are positive, however little that is.
    pub allow_low_quality_matches: bool,
}

/// What a box is to be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Background.
    Negative,
    /// Neither.
    Ignored,
    /// An object.
    Positive,
}

/// What a box was assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Index of the ground truth: the first of those that it overlaps most; 0 if there is none.
    pub gt: usize,
    /// What the box is to be taken for.
    pub label: Label,
}

impl Matcher {
    /// The match of each of `boxes` boxes. `overlaps` are those of every ground truth with every box, `[G, boxes]`.
    pub fn matches(&self, overlaps: &[f32], boxes: usize) -> Vec<Match> {
        if overlaps.is_empty() {
            return vec![Match { gt: 0, label: self.below }; boxes];
        }
        let mut best = vec![(0, f32::NEG_INFINITY); boxes];
        for (gt, overlaps) in overlaps.chunks_exact(boxes).enumerate() {
            for (best, &overlap) in best.iter_mut().zip(overlaps) {
                if overlap > best.1 {
                    *best = (gt, overlap);
                }
            }
        }
        let label = |overlap| {
            let reached = self.thresholds.iter().rfind(|threshold| threshold.0 <= overlap);
            reached.map_or(self.below, |threshold| threshold.1)
        };
        let mut matches: Vec<_> =
            best.into_iter().map(|(gt, overlap)| Match { gt, label: label(overlap) }).collect();
        if self.allow_low_quality_matches {
            for overlaps in overlaps.chunks_exact(boxes) {
                let largest = overlaps.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                // It stays assigned to the ground truth that it overlaps most, which may be another one: so does detectron2.
                let most = matches.iter_mut().zip(overlaps).filter(|&(_, &overlap)| overlap == largest);
                most.for_each(|(of_box, _)| of_box.label = Label::Positive);
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::super::boxes::pairwise_iou;
    use super::super::testing::{Golden, anchors, assert_near};
    use super::*;

    fn rpn() -> Matcher {
        let thresholds = vec![(0.3, Label::Ignored), (0.7, Label::Positive)];
        Matcher { below: Label::Negative, thresholds, allow_low_quality_matches: true }
    }

    fn roi() -> Matcher {
        let thresholds = vec![(0.5, Label::Positive)];
        Matcher { below: Label::Negative, thresholds, allow_low_quality_matches: false }
    }

    /// Of the names of the indices and labels.
    fn assert_matches(golden: &Golden, [gts, labels]: [&str; 2], overlaps: &[f32], matcher: &Matcher) {
        let expected = golden.indices(gts);
        let matches = matcher.matches(overlaps, expected.len());
        assert_eq!(matches.iter().map(|of_box| of_box.gt).collect::<Vec<_>>(), expected, "{gts}");
        let number = |label| match label {
            Label::Negative => 0,
            Label::Ignored => u8::MAX,
            Label::Positive => 1,
        };
        let own: Vec<_> = matches.iter().map(|of_box| number(of_box.label)).collect();
        assert_eq!(own, golden.bytes(labels), "{labels}");
    }

    #[test]
    fn matches_are_those_of_detectron2() {
        let golden = Golden::read("box_ops");
        let overlaps = golden.floats("matcher_iou");
        assert_matches(&golden, ["matcher_rpn_idx", "matcher_rpn_label"], &overlaps, &rpn());
        assert_matches(&golden, ["matcher_roi_idx", "matcher_roi_label"], &overlaps, &roi());
        assert_matches(
            &golden,
            ["matcher_zero_row_idx", "matcher_zero_row_label"],
            &golden.floats("matcher_zero_row_iou"),
            &rpn(),
        );
        assert_matches(&golden, ["matcher_empty_idx", "matcher_empty_label"], &[], &rpn());
    }

    #[test]
    fn anchors_and_proposals_match_the_objects_of_images_as_in_detectron2() {
        let (rpn_golden, roi_golden, anchors) =
            (Golden::read("rpn_train"), Golden::read("roi_train"), anchors());
        for image in 0..2 {
            let gts = rpn_golden.boxes(&format!("gt_boxes_{image}"));
            let names = ["matched_gt_idx", "matcher_labels"].map(|name| format!("{name}_{image}"));
            let names = names.each_ref().map(String::as_str);
            let overlaps = pairwise_iou(&gts, &anchors);
            let best =
                |at: usize| overlaps.iter().skip(at).step_by(anchors.len()).copied().fold(0.0, f32::max);
            let best: Vec<_> = (0..anchors.len()).map(best).collect();
            assert_near("IoU", &best, &rpn_golden.floats(&format!("best_iou_{image}")), 1e-6);
            assert_matches(&rpn_golden, names, &overlaps, &rpn());
            let proposals = roi_golden.boxes(&format!("proposals_with_gt_{image}"));
            assert_matches(&roi_golden, names, &pairwise_iou(&gts, &proposals), &roi());
        }
    }

    #[test]
    fn an_overlap_at_a_threshold_is_above_it() {
        let labels = |overlap| rpn().matches(&[overlap, 1.0], 2)[0].label;
        assert_eq!([0.299, 0.3, 0.7].map(labels), [Label::Negative, Label::Ignored, Label::Positive]);
    }
}
