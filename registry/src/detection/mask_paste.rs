//! Masks of boxes in their image (`detectron2.layers.mask_ops.paste_masks_in_image`).

use image::GrayImage;

/// A mask, `[side, side]`, stretched over a box of an image of a height and a width: 255 where its bilinear interpolation at the
/// centre of a pixel is at least `threshold`, and 0 elsewhere. What is around the mask is 0.
pub fn paste_mask(mask: &[f32], bbox: [f32; 4], size: [usize; 2], threshold: f32) -> GrayImage {
    let [height, width] = size;
    let mut image = GrayImage::new(width as u32, height as u32);
    let pixels: &mut [u8] = &mut image;
    let region = Region::new(mask, bbox, size);
    let rows = pixels.chunks_exact_mut(width.max(1)).skip(region.top);
    for (row, values) in rows.zip(region.values.chunks_exact(region.width.max(1))) {
        for (pixel, &value) in row[region.left..].iter_mut().zip(values) {
            *pixel = if value >= threshold { 255 } else { 0 };
        }
    }
    image
}

/// A mask as pixels of an image, before the threshold.
struct Region {
    top: usize,
    left: usize,
    width: usize,
    /// Row-major.
    values: Vec<f32>,
}

impl Region {
    /// All pixels that the mask may cover; PyTorch's `grid_sample` with `align_corners=False`.
    fn new(mask: &[f32], [x0, y0, x1, y1]: [f32; 4], [height, width]: [usize; 2]) -> Self {
        let side = mask.len().isqrt();
        // With zeros around.
        let mut padded = vec![0.0; (side + 2) * (side + 2)];
        for (mask, padded) in mask.chunks_exact(side.max(1)).zip(padded.chunks_exact_mut(side + 2).skip(1)) {
            padded[1..=side].copy_from_slice(mask);
        }
        let (top, rows) = taps(y0, y1, height, side);
        let (left, cols) = taps(x0, x1, width, side);
        let mut values = Vec::with_capacity(rows.len() * cols.len());
        for (row, below) in rows {
            let (upper, lower) = padded[row * (side + 2)..].split_at(side + 2);
            values.extend(cols.iter().map(|&(col, right)| {
                let of_row = |row: &[f32]| row[col] * (1.0 - right) + row[col + 1] * right;
                of_row(upper) * (1.0 - below) + of_row(lower) * below
            }));
        }
        Self { top, left, width: cols.len(), values }
    }
}

/// Of one side: the first pixel of an image of `size` pixels that a mask over `start` to `end` may cover, and for each pixel from there
/// on the cell of the padded mask before its centre, with the share of the cell behind. In `f32` as PyTorch.
fn taps(start: f32, end: f32, size: usize, side: usize) -> (usize, Vec<(usize, f32)>) {
    let first = (start.floor() - 1.0).max(0.0) as usize;
    let last = ((end.ceil() + 1.0).max(0.0) as usize).min(size);
    let tap = |pixel: usize| {
        let normalised = (pixel as f32 + 0.5 - start) / (end - start) * 2.0 - 1.0;
        let position = ((normalised + 1.0) * side as f32 - 1.0) / 2.0;
        let cell = position.floor();
        // Beside the mask, or beside everything (NaN, of an empty box): the zeros around it.
        let is_near = cell >= -1.0 && cell < side as f32;
        if is_near { ((cell + 1.0) as usize, position - cell) } else { (0, 0.0) }
    };
    (first, (first..last).map(tap).collect())
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
            let own = Region::new(mask, bbox, [height, width]);
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
            let own = paste_mask(&masks[at * 28 * 28..][..28 * 28], bbox, [256; 2], 0.5);
            let expected = golden.bits("pasted_same_size_0", at);
            assert!(distance(&is_on(&own), &expected) <= 256 * 256 / 5000, "mask {at}");
        }
    }
}
