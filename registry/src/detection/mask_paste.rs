//! Masks of boxes in their image (`detectron2.layers.mask_ops.paste_masks_in_image`).

use std::ops::Range;

use image::{GrayImage, Luma};

/// A mask, `[side, side]`, stretched over a box of an image of a height and a width: 255 where its bilinear interpolation at the
/// centre of a pixel is at least `threshold`, and 0 elsewhere. What is around the mask is 0.
pub fn paste_mask(mask: &[f32], bbox: [f32; 4], size: [usize; 2], threshold: f32) -> GrayImage {
    let [height, width] = size;
    let mut image = GrayImage::new(width as u32, height as u32);
    let soft = Soft::new(mask, bbox, size);
    for y in soft.rows.clone() {
        for x in soft.cols.clone() {
            if soft.at(x, y) >= threshold {
                image.put_pixel(x as u32, y as u32, Luma([255]));
            }
        }
    }
    image
}

/// A mask over a box, before the threshold.
struct Soft<'a> {
    mask: &'a [f32],
    side: usize,
    bbox: [f32; 4],
    /// The pixels that it may cover.
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<'a> Soft<'a> {
    fn new(mask: &'a [f32], bbox: [f32; 4], [height, width]: [usize; 2]) -> Self {
        let [x0, y0, x1, y1] = bbox;
        let pixels = |start: f32, end: f32, size: usize| {
            (start.floor() - 1.0).max(0.0) as usize..((end.ceil() + 1.0).max(0.0) as usize).min(size)
        };
        Self {
            mask,
            side: mask.len().isqrt(),
            bbox,
            rows: pixels(y0, y1, height),
            cols: pixels(x0, x1, width),
        }
    }

    /// The value at the centre of a pixel; PyTorch's `grid_sample` with `align_corners=False`, in `f32` as there.
    fn at(&self, x: usize, y: usize) -> f32 {
        let [x0, y0, x1, y1] = self.bbox;
        let position = |pixel: usize, start: f32, end: f32| {
            let normalised = (pixel as f32 + 0.5 - start) / (end - start) * 2.0 - 1.0;
            ((normalised + 1.0) * self.side as f32 - 1.0) / 2.0
        };
        let (x, y) = (position(x, x0, x1), position(y, y0, y1));
        let (left, top) = (x.floor(), y.floor());
        let value = |x: f32, y: f32| {
            let inside = |at: f32| at >= 0.0 && at < self.side as f32;
            if inside(x) && inside(y) { self.mask[y as usize * self.side + x as usize] } else { 0.0 }
        };
        let (right, bottom) = (left + 1.0, top + 1.0);
        value(left, top) * ((right - x) * (bottom - y))
            + value(right, top) * ((x - left) * (bottom - y))
            + value(left, bottom) * ((right - x) * (y - top))
            + value(right, bottom) * ((x - left) * (y - top))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, assert_near};
    use super::*;

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
            let mask = &masks[at * 28 * 28..][..28 * 28];
            let own = paste_mask(mask, bbox, [height, width], 0.5);
            let pasted: Vec<bool> = pasted.iter().map(|&pixel| pixel > 0).collect();
            assert!(distance(&is_on(&own), &pasted) <= 2, "mask {at}");
            let expected = &soft[at * height * width..][..height * width];
            if expected[0].is_nan() {
                continue; // Of an empty box.
            }
            let own = Soft::new(mask, bbox, [height, width]);
            let mut values = vec![0.0; height * width];
            for y in own.rows.clone() {
                own.cols.clone().for_each(|x| values[y * width + x] = own.at(x, y));
            }
            assert_near("soft", &values, expected, 1e-4);
        }
    }

    #[test]
    fn masks_of_detections_are_those_of_detectron2() {
        let golden = Golden::read("masks");
        let masks = golden.floats("mask_probs_0");
        for (at, bbox) in golden.boxes("det_boxes_0").into_iter().enumerate() {
            let own = paste_mask(&masks[at * 28 * 28..][..28 * 28], bbox, [256; 2], 0.5);
            let expected = golden.bits("pasted_same_size_0", at);
            assert!(distance(&is_on(&own), &expected) <= 256 * 256 / 5000, "mask {at}");
        }
    }
}
