//! Regions of images that hold objects, as heads find them.

use super::RoiMask;
use crate::data::boxes::{clip, nonempty};

/// Regions of an image: proposals, then detections. One after the other, in arrays of the same length; arrays of what is not
/// known are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Regions {
    /// `[x0, y0, x1, y1]` in pixels, the end exclusive.
    pub boxes: Vec<[f32; 4]>,
    /// How sure it is that there is an object: logits of proposals, probabilities of detections.
    pub scores: Vec<f32>,
    /// Indices of the objects' classes; empty for proposals.
    pub classes: Vec<u32>,
    /// Where the objects are within their boxes; empty if only boxes are known.
    pub masks: Vec<RoiMask>,
    /// In training, which of the objects of the target each is to predict: its index, or none for background.
    pub gts: Vec<Option<usize>>,
}

impl Regions {
    /// Number of regions.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Those at these indices, in their order.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        fn of<T: Clone>(values: &[T], indices: &[usize]) -> Vec<T> {
            if values.is_empty() {
                Vec::new()
            } else {
                indices.iter().map(|&at| values[at].clone()).collect()
            }
        }
        Self {
            boxes: of(&self.boxes, indices),
            scores: of(&self.scores, indices),
            classes: of(&self.classes, indices),
            masks: of(&self.masks, indices),
            gts: of(&self.gts, indices),
        }
    }

    /// The same in an image that is `scale` times (down, across) as large, and then has a height and a width: boxes are cut at its
    /// border, and those of which nothing is left are dropped (`detector_postprocess` of detectron2).
    #[must_use]
    pub fn rescale(mut self, [down, across]: [f64; 2], size: [usize; 2]) -> Self {
        let (down, across) = (down as f32, across as f32);
        for bbox in &mut self.boxes {
            let [x0, y0, x1, y1] = *bbox;
            *bbox = clip([x0 * across, y0 * down, x1 * across, y1 * down], size);
        }
        let kept: Vec<_> = (0..self.len()).filter(|&at| nonempty(self.boxes[at], 0.0)).collect();
        self.select(&kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_beyond_the_image_is_dropped_from_every_array_that_there_is() {
        let regions = Regions {
            boxes: vec![[1.0, 2.0, 9.0, 4.0], [6.0, 0.0, 8.0, 1.0]],
            scores: vec![0.75, 0.5],
            masks: vec![RoiMask(vec![1.0]), RoiMask(vec![0.0])],
            ..Regions::default()
        };
        let expected = Regions {
            boxes: vec![[2.0, 1.0, 10.0, 2.0]],
            scores: vec![0.75],
            masks: vec![RoiMask(vec![1.0])],
            ..Regions::default()
        };
        assert_eq!(regions.rescale([0.5, 2.0], [4, 10]), expected);
    }
}
