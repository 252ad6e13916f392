//! What the box head detects (`fast_rcnn_inference` of detectron2).

use convmae_framework::component::Regions;
use convmae_framework::data::boxes::{clip, nonempty};
use convmae_framework::nn::cpu::argmax::argmax;

use super::box_coder::Box2BoxTransform;
use super::nms::batched_nms;

/// Which objects count as found.
#[derive(Debug, Clone, Copy)]
pub struct DetectionSelection {
    /// Scores that are not above it do not count.
    pub score_thresh: f32,
    /// IoU above which the better of two boxes of a class suppresses the other.
    pub nms_thresh: f64,
    /// Objects of an image at most.
    pub topk_per_image: usize,
}

impl DetectionSelection {
    /// The objects of an image of a height and a width, most certain first, from what is predicted of its `R` proposals.
    ///
    /// `logits` are `[R, K + 1]`, the last one that of background; `deltas` are `[R, 4 K]`, or `[R, 4]` for all classes together.
    /// Proposals of no finite numbers are dropped.
    pub fn fast_rcnn_inference(
        &self,
        proposals: &[[f32; 4]],
        logits: &[f32],
        deltas: &[f32],
        coder: &Box2BoxTransform,
        image: [usize; 2],
    ) -> Regions {
        let (mut boxes, mut scores, mut class_ids) = (Vec::new(), Vec::new(), Vec::new());
        for RegionPrediction { scores: of_classes, boxes: boxes_of_classes } in
            region_predictions(proposals, logits, deltas, coder)
        {
            let of_boxes = boxes_of_classes.as_flattened();
            if !of_classes.iter().chain(of_boxes).all(|value| value.is_finite()) {
                continue;
            }
            let objects = of_classes.split_last().map_or(&[][..], |(_, objects)| objects);
            for (class, &score) in objects.iter().enumerate() {
                if score > self.score_thresh {
                    boxes.push(clip(boxes_of_classes[class.min(boxes_of_classes.len() - 1)], image));
                    scores.push(score);
                    class_ids.push(class);
                }
            }
        }
        let mut kept = batched_nms(&boxes, &scores, &class_ids, self.nms_thresh);
        kept.truncate(self.topk_per_image);
        Regions {
            boxes: kept.iter().map(|&at| boxes[at]).collect(),
            scores: kept.iter().map(|&at| scores[at]).collect(),
            classes: kept.iter().map(|&at| class_ids[at] as u32).collect(),
            ..Regions::default()
        }
    }
}

/// What is predicted of a region.
struct RegionPrediction {
    /// Probabilities of the classes, the last one that of background, `[K + 1]`.
    scores: Vec<f32>,
    /// The box if the object is of a class, `[K]`, or a single one whatever it is.
    boxes: Vec<[f32; 4]>,
}

fn region_predictions(
    proposals: &[[f32; 4]],
    logits: &[f32],
    deltas: &[f32],
    coder: &Box2BoxTransform,
) -> impl Iterator<Item = RegionPrediction> {
    let regions = proposals.len().max(1);
    let (classes, width) = (logits.len() / regions, deltas.len() / regions);
    proposals.iter().enumerate().map(move |(region, &proposal)| {
        let (deltas, _) = deltas[region * width..][..width].as_chunks::<4>();
        RegionPrediction {
            scores: softmax(&logits[region * classes..][..classes]),
            boxes: deltas.iter().map(|&deltas| coder.apply_deltas(proposal, deltas)).collect(),
        }
    })
}

/// The boxes of proposals, moved onto the object of the most probable class (`refine` of a cascade): what is left of them in an
/// image of a height and a width.
pub fn refined_boxes(
    proposals: &[[f32; 4]],
    logits: &[f32],
    deltas: &[f32],
    coder: &Box2BoxTransform,
    image: [usize; 2],
) -> Vec<[f32; 4]> {
    let refined =
        region_predictions(proposals, logits, deltas, coder).map(|RegionPrediction { scores, boxes }| {
            let class = scores.split_last().map_or(0, |(_, objects)| argmax(objects));
            clip(boxes[class.min(boxes.len() - 1)], image)
        });
    refined.filter(|&bbox| nonempty(bbox, 0.0)).collect()
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use convmae_framework::component::RoiMask;
    use convmae_framework::data::Original;
    use image::GrayImage;

    use super::super::testing::{Golden, assert_near};
    use super::*;

    /// Of images of these sizes, with at most so many objects.
    fn assert_detections(name: &str, sizes: [[usize; 2]; 2], topk_per_image: usize) {
        let golden = Golden::read(name);
        let selection = DetectionSelection { topk_per_image, ..SELECTION };
        let (logits, deltas) = (golden.floats("cls_logits"), golden.floats("box_deltas"));
        let coder = Box2BoxTransform::new([10.0, 10.0, 5.0, 5.0]);
        for (image, size) in sizes.into_iter().enumerate() {
            let part = |name: &str| format!("{name}_{image}");
            let proposals = golden.boxes(&part("proposals"));
            let logits = &logits[image * proposals.len() * 6..][..proposals.len() * 6];
            let deltas = &deltas[image * proposals.len() * 20..][..proposals.len() * 20];
            let own = selection.fast_rcnn_inference(&proposals, logits, deltas, &coder, size);
            let classes: Vec<_> = own.classes.iter().map(|&class| class as usize).collect();
            assert_eq!(classes, golden.indices(&part("det_classes")));
            assert_near("scores", &own.scores, &golden.floats(&part("det_scores")), 1e-6);
            assert_near("boxes", own.boxes.as_flattened(), &golden.floats(&part("det_boxes")), 1e-5);
        }
    }

    const SELECTION: DetectionSelection =
        DetectionSelection { score_thresh: 0.05, nms_thresh: 0.5, topk_per_image: 100 };

    #[test]
    fn detections_are_those_of_detectron2() {
        assert_detections("detections", [[256; 2]; 2], 60);
        assert_detections("vitdet/detections", [[192, 144], [136, 192]], 50);
    }

    #[test]
    fn one_set_of_deltas_is_that_of_all_classes_and_what_is_not_finite_is_dropped() {
        let proposals = [[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]];
        let find = |logits: &[f32], deltas: &[f32]| {
            let coder = Box2BoxTransform::new([1.0; 4]);
            SELECTION.fast_rcnn_inference(&proposals, logits, deltas, &coder, [8; 2])
        };
        let found = find(&[0.0, 9.0, 0.0, 9.0, 0.0, 0.0], &[0.0; 8]);
        assert_eq!((found.boxes, found.classes), (proposals.to_vec(), vec![1, 0]));
        let found = find(&[0.0, 9.0, 0.0, 9.0, f32::NAN, 0.0], &[0.0; 8]);
        assert_eq!((found.boxes, found.classes), (vec![proposals[0]], vec![1]));
        assert_eq!(find(&[0.0, 0.0, 9.0, 0.0, 0.0, 9.0], &[0.0; 8]), Regions::default());
    }

    fn is_on(image: &GrayImage) -> Vec<bool> {
        image.as_raw().iter().map(|&pixel| pixel > 0).collect()
    }

    /// How many pixels differ.
    fn distance(a: &[bool], b: &[bool]) -> usize {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn at_their_limits_masks_are_those_of_detectron2() {
        let golden = Golden::read("ops");
        let [height, width]: [usize; 2] = golden.indices("paste_hw").try_into().unwrap();
        let (masks, soft) = (golden.floats("paste_masks"), golden.floats("pasted_soft"));
        let pasted = golden.bytes("pasted").chunks_exact(height * width);
        for (at, (bbox, pasted)) in golden.boxes("paste_boxes").into_iter().zip(pasted).enumerate() {
            let mask = RoiMask(masks[at * 28 * 28..][..28 * 28].to_vec());
            let pasted: Vec<bool> = pasted.iter().map(|&pixel| pixel > 0).collect();
            let own = mask.encode(bbox, [height, width]).decode();
            assert!(distance(&is_on(&own), &pasted) <= 2, "mask {at}");
            let expected = &soft[at * height * width..][..height * width];
            if expected[0].is_nan() {
                continue; // Of an empty box.
            }
            let own = mask.interpolate(bbox, [height, width]);
            let mut values = vec![0.0; height * width];
            for (row, part) in own.values.chunks_exact(own.width.max(1)).enumerate() {
                values[(own.top + row) * width + own.left..][..own.width].copy_from_slice(part);
            }
            assert_near("soft", &values, expected, 1e-4);
        }
    }

    #[test]
    fn masks_of_detections_are_those_of_detectron2() {
        let golden = Golden::read("masks");
        let masks = golden.floats("mask_probs_0");
        for (at, bbox) in golden.boxes("det_boxes_0").into_iter().enumerate() {
            let mask = RoiMask(masks[at * 28 * 28..][..28 * 28].to_vec());
            let own = mask.encode(bbox, [256; 2]).decode();
            let expected = golden.bits("pasted_same_size_0", at);
            assert!(distance(&is_on(&own), &expected) <= 256 * 256 / 5000, "mask {at}");
        }
    }

    /// The boxes of detections of an image of size `from` in one of size `to`, and which are left.
    fn rescaled(boxes: Vec<[f32; 4]>, from: [usize; 2], to: [usize; 2]) -> (Vec<usize>, Vec<[f32; 4]>) {
        let classes = (0..boxes.len() as u32).collect();
        let original = Original { size: to, ..Original::default() };
        let regions = Regions { boxes, classes, ..Regions::default() }.rescale(original.scale(from), to);
        (regions.classes.into_iter().map(|number| number as usize).collect(), regions.boxes)
    }

    #[test]
    fn boxes_in_the_image_as_it_was_read_are_those_of_detectron2() {
        let golden = Golden::read("vitdet/detections");
        for (image, size) in [[192, 144], [136, 192]].into_iter().enumerate() {
            let boxes = golden.boxes(&format!("det_boxes_{image}"));
            let to = golden.indices(&format!("out_hw_{image}")).try_into().unwrap();
            let expected = golden.floats(&format!("out_boxes_{image}"));
            assert_near("boxes", rescaled(boxes, size, to).1.as_flattened(), &expected, 1e-6);
        }
        let golden = Golden::read("detections");
        for image in 0..2 {
            let boxes = golden.boxes(&format!("det_boxes_{image}"));
            let to = golden.indices(&format!("out_hw_{image}")).try_into().unwrap();
            let (kept, boxes) = rescaled(boxes, [256; 2], to);
            assert_eq!(kept, golden.indices(&format!("d2_keep_{image}")));
            let expected = golden.floats(&format!("d2_boxes_{image}"));
            assert_near("boxes", boxes.as_flattened(), &expected, 1e-6);
        }
    }
}
