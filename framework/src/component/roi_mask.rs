//! Masks of boxes (`detectron2.structures.ROIMasks`, `detectron2.layers.mask_ops.paste_masks_in_image`).

use std::ops::Range;

use crate::data::Rle;

/// A mask relative to a box: how probable it is that the object covers each of its `S * S` cells, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct RoiMask(pub Vec<f32>);

impl RoiMask {
    /// An object covers the pixels where it does so at least this probably (`detector_postprocess` of detectron2).
    pub const THRESHOLD: f32 = 0.5;

    /// The mask stretched over its box in an image of a height and a width, where its bilinear interpolation at the centre of a pixel
    /// is at least [`Self::THRESHOLD`]. What is around the mask is 0.
    pub fn encode(&self, bbox: [f32; 4], size: [usize; 2]) -> Rle {
        let PastedMask { top, left, width, values } = self.interpolate(bbox, size);
        let height = values.len() / width.max(1);
        let cells = (0..width).flat_map(|x| (0..height).map(move |y| (x, y)));
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (x, y) in cells.filter(|(x, y)| values[y * width + x] >= Self::THRESHOLD) {
            let at = (left + x) * size[0] + top + y;
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        Rle::of_runs(size, runs)
    }

    /// All pixels that the mask may cover; PyTorch's `grid_sample` with `align_corners=False`.
    pub fn interpolate(&self, [x0, y0, x1, y1]: [f32; 4], [height, width]: [usize; 2]) -> PastedMask {
        let side = self.0.len().isqrt();
        // With zeros around.
        let mut padded = vec![0.0; (side + 2) * (side + 2)];
        let rows = padded.chunks_exact_mut(side + 2).skip(1);
        for (mask, padded) in self.0.chunks_exact(side.max(1)).zip(rows) {
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
        PastedMask { top, left, width: cols.len(), values }
    }
}

/// Probabilities at the pixels of an image that a [`RoiMask`] may cover; elsewhere they are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct PastedMask {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Columns.
    pub width: usize,
    /// Row-major.
    pub values: Vec<f32>,
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
    use image::{GrayImage, Luma};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn run_lengths_are_those_of_the_pasted_mask(
            cells in prop::collection::vec(0.0_f32..1.0, 9),
            corners in prop::array::uniform4(-4.0_f32..14.0),
        ) {
            let mask = RoiMask(cells);
            let PastedMask { top, left, width, values } = mask.interpolate(corners, [9, 7]);
            let mut pasted = GrayImage::new(7, 9);
            for (at, _) in values.iter().enumerate().filter(|(_, value)| **value >= RoiMask::THRESHOLD) {
                pasted.put_pixel((left + at % width) as u32, (top + at / width) as u32, Luma([255]));
            }
            prop_assert_eq!(mask.encode(corners, [9, 7]), Rle::encode(&pasted));
        }
    }
}
