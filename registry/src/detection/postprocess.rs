//! Boxes of the network's image in the image that it was made of (`detector_postprocess` of detectron2, `lsj_postprocess` of
//! MIMDet).

use super::boxes::{clip, nonempty};

/// How boxes are scaled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postprocess {
    /// Each axis by its own ratio: the image was resized.
    Standard,
    /// Both by the larger ratio: the image was resized and padded to a square, as in large-scale jitter.
    Lsj,
}

impl Postprocess {
    /// The boxes in an image of size `to` of those in one of size `from`, heights and widths, with their indices; those of which
    /// nothing is left are dropped.
    pub fn rescale(self, boxes: &[[f32; 4]], from: [usize; 2], to: [usize; 2]) -> Vec<(usize, [f32; 4])> {
        let ratio = |axis: usize| to[axis] as f64 / from[axis] as f64;
        let [down, across] = match self {
            Self::Standard => [ratio(0), ratio(1)],
            Self::Lsj => [ratio(0).max(ratio(1)); 2],
        };
        let (down, across) = (down as f32, across as f32);
        let rescale = |[x0, y0, x1, y1]: [f32; 4]| clip([x0 * across, y0 * down, x1 * across, y1 * down], to);
        let rescaled = boxes.iter().map(|&bbox| rescale(bbox)).enumerate();
        rescaled.filter(|&(_, bbox)| nonempty(bbox, 0.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, assert_near};
    use super::*;

    #[test]
    fn boxes_of_padded_images_are_those_of_detectron2() {
        let golden = Golden::read("unequal_sizes");
        for (image, size) in [[192, 144], [136, 192]].into_iter().enumerate() {
            let boxes = golden.boxes(&format!("det_boxes_{image}"));
            let to = golden.indices(&format!("out_hw_{image}")).try_into().unwrap();
            let boxes: Vec<_> =
                Postprocess::Standard.rescale(&boxes, size, to).into_iter().map(|kept| kept.1).collect();
            let expected = golden.floats(&format!("out_boxes_{image}"));
            assert_near("boxes", boxes.as_flattened(), &expected, 1e-6);
        }
    }

    #[test]
    fn boxes_are_those_of_the_official_postprocessing() {
        let golden = Golden::read("detections");
        for image in 0..2 {
            let boxes = golden.boxes(&format!("det_boxes_{image}"));
            let size = golden.indices(&format!("out_hw_{image}")).try_into().unwrap();
            for (name, postprocess) in [("d2", Postprocess::Standard), ("lsj", Postprocess::Lsj)] {
                let (kept, boxes): (Vec<_>, Vec<_>) =
                    postprocess.rescale(&boxes, [256; 2], size).into_iter().unzip();
                assert_eq!(kept, golden.indices(&format!("{name}_keep_{image}")), "{name}");
                let expected = golden.floats(&format!("{name}_boxes_{image}"));
                assert_near(name, boxes.as_flattened(), &expected, 1e-6);
            }
        }
    }
}
