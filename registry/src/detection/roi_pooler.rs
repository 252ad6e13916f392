//! Features of boxes from the levels of a pyramid (`detectron2.modeling.poolers.ROIPooler`).

use convmae_framework::nn::ops::{Roi, roi_align};
use convmae_framework::nn::{Error, Result, Tensor};

use super::boxes::area;

/// The side in pixels of a box that belongs to [`CANONICAL_LEVEL`]: of ImageNet's images.
const CANONICAL_SIZE: f32 = 224.0;

/// The level of such a box: `p4`, of stride 16.
const CANONICAL_LEVEL: f32 = 4.0;

/// Pools boxes, each from the level that fits its size (equation 1 of Lin et al. 2017).
#[derive(Debug, Clone)]
pub struct RoiPooler {
    /// Bins along each side.
    pub output_size: usize,
    /// Strides of the levels, in pixels: powers of 2, each twice the one before.
    pub strides: Vec<usize>,
    /// Samples of a bin along each side; 0 for one per pixel of the level.
    pub sampling_ratio: usize,
}

impl RoiPooler {
    /// Index of the level that a box is pooled from.
    pub fn level(&self, bbox: [f32; 4]) -> usize {
        let level = (CANONICAL_LEVEL + (area(bbox).sqrt() / CANONICAL_SIZE + 1e-8).log2()).floor();
        let first = self.strides.first().map_or(0.0, |stride| stride.ilog2() as f32);
        // A level of no number (NaN) is the first.
        ((level - first).max(0.0) as usize).min(self.strides.len().saturating_sub(1))
    }

    /// The features of the boxes of all images, one image's behind the other's, from the maps `[B, H, W, C]` of the levels:
    /// `[R, output_size, output_size, C]`.
    ///
    /// # Errors
    /// If the maps differ in more than their sizes, there are not as many as strides, or a box is not finite; or if the device
    /// fails.
    pub fn forward(&self, maps: &[Tensor], boxes: &[Vec<[f32; 4]>]) -> Result<Tensor> {
        if maps.len() != self.strides.len() {
            let (maps, strides) = (maps.len(), self.strides.len());
            return Err(Error::Shape(format!("{maps} maps do not fit the strides of {strides}")));
        }
        let maps = maps.iter().zip(&self.strides).map(|(map, &stride)| (map.clone(), 1.0 / stride as f32));
        let of_image = |(image, boxes): (usize, &Vec<[f32; 4]>)| {
            boxes.iter().map(move |&bbox| Roi { level: self.level(bbox), image, bbox }).collect::<Vec<_>>()
        };
        let rois: Vec<Roi> = boxes.iter().enumerate().flat_map(of_image).collect();
        roi_align(maps.collect(), &rois, (self.output_size, self.output_size), self.sampling_ratio)
    }
}

#[cfg(test)]
mod tests {
    use convmae_framework::nn::Tape;

    use super::super::testing::{Golden, assert_near};
    use super::*;

    fn pooler(output_size: usize) -> RoiPooler {
        RoiPooler { output_size, strides: vec![4, 8, 16, 32], sampling_ratio: 0 }
    }

    #[test]
    fn levels_are_those_of_detectron2() {
        let levels =
            |boxes: Vec<[f32; 4]>| boxes.into_iter().map(|bbox| pooler(7).level(bbox)).collect::<Vec<_>>();
        let golden = Golden::read("box_ops");
        assert_eq!(levels(golden.boxes("lvl_boxes")), golden.indices("lvl"));
        for image in 0..2 {
            let boxes = golden.boxes(&format!("pooler_boxes_{image}"));
            assert_eq!(levels(boxes), golden.indices(&format!("pooler_levels_{image}")));
        }
        let golden = Golden::read("ops");
        assert_eq!(levels(golden.boxes("level_boxes")), golden.indices("level_index"));
    }

    #[test]
    fn features_are_those_of_detectron2() {
        let golden = Golden::read("box_ops");
        let maps = [2, 3, 4, 5].map(|level| {
            let (values, shape) = golden.maps(&format!("pooler_feat_p{level}"));
            Tensor::from_vec(values, shape, &Tape::none()).unwrap()
        });
        let boxes = [0, 1].map(|image| golden.boxes(&format!("pooler_boxes_{image}")));
        for side in [7, 14] {
            let features = pooler(side).forward(&maps, &boxes).unwrap();
            let (expected, shape) = golden.maps(&format!("pooler_out{side}"));
            assert_eq!(features.dims(), shape);
            assert_near("features", &features.to_vec().unwrap(), &expected, 1e-5);
        }
    }
}
