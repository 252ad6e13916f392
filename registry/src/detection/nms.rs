//! Non-maximum suppression (`torchvision.ops.nms` and `batched_nms`).

use std::collections::BTreeMap;

use convmae_framework::nn::simd::vectorized;
use rayon::prelude::*;

use super::boxes::area;

/// The boxes that no better box of their group overlaps by more than `threshold` (IoU): their indices, best first; of equal
/// scores, the lower index is better. `groups` are classes, or levels of a pyramid.
///
/// torchvision moves groups apart by adding to their boxes, which rounds; here they are told apart exactly.
pub fn batched_nms(boxes: &[[f32; 4]], scores: &[f32], groups: &[usize], threshold: f64) -> Vec<usize> {
    // An IoU in `f32` is above the threshold if it is above the largest `f32` that is not: torchvision compares in `f64`.
    let nearest = threshold as f32;
    let threshold = if f64::from(nearest) > threshold { nearest.next_down() } else { nearest };
    // Zeros of both signs are equal.
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &at in &order {
        members.entry(groups[at]).or_default().push(at);
    }
    let members: Vec<_> = members.into_values().collect();
    let kept: Vec<Vec<usize>> = members
        .into_par_iter()
        .map(|members| {
            let suppressed = suppressed(members.iter().map(|&at| boxes[at]), threshold);
            members
                .into_iter()
                .zip(suppressed)
                .filter_map(|(at, suppressed)| (suppressed == 0).then_some(at))
                .collect()
        })
        .collect();
    let mut is_kept = vec![false; boxes.len()];
    kept.into_iter().flatten().for_each(|at| is_kept[at] = true);
    order.retain(|&at| is_kept[at]);
    order
}

/// 0 for boxes, best first, that no better one which is kept itself overlaps by more than `threshold`, and 1 for others.
fn suppressed(boxes: impl Iterator<Item = [f32; 4]>, threshold: f32) -> Vec<u32> {
    let boxes: Vec<_> = boxes.collect();
    let [x0, y0, x1, y1] =
        std::array::from_fn(|side| boxes.iter().map(|bbox| bbox[side]).collect::<Vec<_>>());
    let areas: Vec<_> = boxes.iter().map(|&bbox| area(bbox)).collect();
    let mut suppressed = vec![0; boxes.len()];
    for at in 0..boxes.len() {
        if suppressed[at] == 0 {
            let rest = at + 1..;
            let others = [&x0, &y0, &x1, &y1, &areas].map(|values| &values[rest.clone()]);
            vectorized(|| suppress(&mut suppressed[rest], boxes[at], others, threshold));
        }
    }
    suppressed
}

/// Marks what a box overlaps by more than `threshold`; `others` are the sides and areas of the other boxes.
#[inline(always)]
fn suppress(suppressed: &mut [u32], bbox: [f32; 4], others: [&[f32]; 5], threshold: f32) {
    let [x0, y0, x1, y1, areas] = others.map(|values| &values[..suppressed.len()]);
    let own = area(bbox);
    for (at, suppressed) in suppressed.iter_mut().enumerate() {
        let width = (bbox[2].min(x1[at]) - bbox[0].max(x0[at])).max(0.0);
        let height = (bbox[3].min(y1[at]) - bbox[1].max(y0[at])).max(0.0);
        let inter = width * height;
        *suppressed |= u32::from(inter / (own + areas[at] - inter) > threshold);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::boxes::pairwise_iou;
    use super::super::testing::Golden;
    use super::*;

    proptest! {
        /// A box is dropped if and only if a better one of its group, which is kept, overlaps it too much.
        #[test]
        fn it_keeps_what_its_definition_keeps(
            boxes in prop::collection::vec((0_u8..9, 0_u8..9, 1_u8..7, 1_u8..7, 0_u8..5, 0_usize..3), 0..40),
            threshold in prop::sample::select(vec![0.2, 0.3, 0.5, 0.7]),
        ) {
            let scores: Vec<f32> = boxes.iter().map(|bbox| bbox.4.into()).collect();
            let groups: Vec<_> = boxes.iter().map(|bbox| bbox.5).collect();
            let boxes: Vec<_> =
                boxes.iter().map(|&(x, y, width, height, ..)| [x, y, x + width, y + height].map(f32::from)).collect();
            let kept = batched_nms(&boxes, &scores, &groups, threshold);
            let rank = |at: usize| (std::cmp::Reverse(scores[at] as u8), at);
            prop_assert!(kept.is_sorted_by_key(|&at| rank(at)));
            for at in 0..boxes.len() {
                let suppresses = |&better: &usize| {
                    groups[better] == groups[at]
                        && rank(better) < rank(at)
                        && f64::from(pairwise_iou(&[boxes[better]], &[boxes[at]])[0]) > threshold
                };
                prop_assert_eq!(kept.contains(&at), !kept.iter().any(suppresses));
            }
        }
    }

    #[test]
    fn it_keeps_what_torchvision_keeps() {
        let golden = Golden::read("box_ops");
        for case in ["empty", "exact_threshold", "large_vanilla", "random", "single_class", "ties"] {
            let part = |part: &str| format!("nms_{case}_{part}");
            let (boxes, scores) = (golden.boxes(&part("boxes")), golden.floats(&part("scores")));
            // As a decimal number of Python; the golden keeps it in `f32`.
            let threshold = golden.floats(&part("thr"))[0].to_string().parse().unwrap();
            let mut kept = batched_nms(&boxes, &scores, &golden.indices(&part("ids")), threshold);
            let mut expected = golden.indices(&part("keep"));
            if case == "large_vanilla" {
                let best = |kept: &[usize]| kept.iter().map(|&at| scores[at]).collect::<Vec<_>>();
                assert_eq!(best(&kept), best(&expected));
                kept.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(kept, expected, "{case}");
        }
    }

    #[test]
    fn only_the_own_group_suppresses_and_what_is_suppressed_does_not() {
        // Each overlaps the next by 0.6, the one after by a third.
        let boxes = [0.0, 2.5, 5.0].map(|x| [x, 0.0, x + 10.0, 1.0]);
        let scores = [0.9, 0.8, 0.7];
        assert_eq!(batched_nms(&boxes, &scores, &[0, 0, 0], 0.5), [0, 2]);
        assert_eq!(batched_nms(&boxes, &scores, &[0, 1, 0], 0.5), [0, 1, 2]);
        assert_eq!(batched_nms(&boxes, &scores, &[0, 0, 0], 0.3), [0]);
        assert_eq!(batched_nms(&boxes, &[0.0, -0.0, 0.0], &[0, 1, 2], 0.5), [0, 1, 2]);
    }
}
