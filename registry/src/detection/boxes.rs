//! Areas and overlaps of boxes (`detectron2.structures.Boxes`).

use rayon::prelude::*;

/// Area in square pixels.
pub fn area([x0, y0, x1, y1]: [f32; 4]) -> f32 {
    (x1 - x0) * (y1 - y0)
}

/// The intersection over union of every box of `a` with every one of `b`, `[a.len(), b.len()]`; 0 if they do not overlap.
pub fn pairwise_iou(a: &[[f32; 4]], b: &[[f32; 4]]) -> Vec<f32> {
    let iou = |one: [f32; 4], other: [f32; 4]| {
        let width = (one[2].min(other[2]) - one[0].max(other[0])).max(0.0);
        let height = (one[3].min(other[3]) - one[1].max(other[1])).max(0.0);
        let inter = width * height;
        if inter > 0.0 { inter / (area(one) + area(other) - inter) } else { 0.0 }
    };
    let mut ious = vec![0.0; a.len() * b.len()];
    ious.par_chunks_mut(b.len().max(1)).zip(a).for_each(|(ious, &one)| {
        ious.iter_mut().zip(b).for_each(|(of_pair, &other)| *of_pair = iou(one, other));
    });
    ious
}

#[cfg(test)]
mod tests {
    use convmae_framework::data::boxes::{clip, nonempty};

    use super::super::testing::{Golden, assert_near};
    use super::*;

    #[test]
    fn it_is_what_detectron2_computes() {
        let golden = Golden::read("box_ops");
        let iou = pairwise_iou(&golden.boxes("iou_a"), &golden.boxes("iou_b"));
        assert_near("iou", &iou, &golden.floats("iou"), 1e-6);
        let size = golden.indices("clip_hw").try_into().unwrap();
        let clipped: Vec<_> = golden.boxes("clip_in").into_iter().map(|bbox| clip(bbox, size)).collect();
        assert_eq!(clipped, golden.boxes("clip_out"));
        let filled: Vec<u8> = clipped.iter().map(|&bbox| nonempty(bbox, 0.0).into()).collect();
        assert_eq!(filled, golden.bytes("clip_nonempty"));
    }
}
