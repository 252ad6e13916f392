use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, Sample, Size};
use convmae_framework::random::Rng;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, check_size};

/// Keeps a part of fixed size, as detectron2's `FixedSizeCrop`: from the same share of the way across as
/// down. A smaller image is kept whole and may be padded, to the right and to the bottom. Objects get the
/// boxes of what is left of their masks; those of which nothing is left are dropped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedSizeCrop {
    /// Side of the square that is kept, or `[height, width]`.
    pub size: Size,
    /// The grey that a smaller image is padded with, such as 128; by default it stays smaller, for batches
    /// that are padded (`pad_to`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<u8>,
}

impl FixedSizeCrop {
    /// The part to keep of an image of `rows` x `columns`; `way` is how far from the top left to the bottom
    /// right, from 0 to 1. Rounded half to even as NumPy does.
    pub(super) fn part(&self, (rows, columns): (usize, usize), way: f64) -> CropBox {
        let (height, width) = self.size.height_width();
        let offset =
            |side: usize, kept: usize| (side.saturating_sub(kept) as f64 * way).round_ties_even() as usize;
        let [top, left] = [offset(rows, height), offset(columns, width)];
        CropBox { top, left, height: height.min(rows), width: width.min(columns) }
    }

    /// Crops at a given place.
    pub(super) fn crop(&self, sample: Sample, way: f64) -> Result<Sample, DataError> {
        let (height, width) = self.size.height_width();
        let part = self.part(sample.size(), way);
        let to = (part.height, part.width);
        let sample = sample.crop_and_resize(part, to, Interpolation::default(), "FixedSizeCrop")?;
        let border = [0, width - part.width, height - part.height, 0];
        let sample = match self.pad {
            Some(grey) => sample.pad(border, grey, "FixedSizeCrop")?,
            None => sample,
        };
        Ok(sample.fit_boxes())
    }
}

#[typetag::serde]
impl Transform for FixedSizeCrop {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        self.crop(sample, rng.random())
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("FixedSizeCrop", input)?;
        check_size(self.size)?;
        let (height, width) = self.size.height_width();
        let size = match self.pad {
            Some(_) => Some((height, width)),
            None => input.size.map(|(rows, columns)| (rows.min(height), columns.min(width))),
        };
        Ok(SampleShape { size, ..input })
    }
}

convmae_framework::register!(Transform: FixedSizeCrop);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::data::Mask;
    use image::Rgb;

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn parts_lie_on_the_diagonal() {
        let crop = parse(r#"{ "type": "FixedSizeCrop", "size": 4 }"#);
        let corners: std::collections::BTreeSet<_> =
            (0..200).map(|seed| apply(&*crop, sample(8, 6), seed).get_pixel(0, 0).0).collect();
        // 2 columns across and 4 rows down, from the same draw: rounded half to even.
        let expected = [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 2, 0], [1, 3, 0], [2, 3, 0], [2, 4, 0]];
        assert!(corners.iter().all(|corner| expected.contains(corner)), "{corners:?}");
        assert!(corners.contains(&[0, 0, 0]) && corners.contains(&[2, 4, 0]));
    }

    #[test]
    fn a_smaller_image_is_padded_if_asked_for() {
        let padded = parse(r#"{ "type": "FixedSizeCrop", "size": [4, 6], "pad": 128 }"#);
        let image = apply(&*padded, sample(3, 9), 0);
        assert_eq!(image.dimensions(), (6, 4));
        assert!((0..6).all(|x| image.get_pixel(x, 3).0 == [128; 3] && image.get_pixel(x, 2).0 != [128; 3]));
        let kept = parse(r#"{ "type": "FixedSizeCrop", "size": [4, 6] }"#);
        assert_eq!(apply(&*kept, sample(3, 5), 0).dimensions(), (5, 3));
        let known = |crop: &dyn Transform, size| {
            crop.output(SampleShape { size, normalized: false, ..SampleShape::default() }).unwrap().size
        };
        assert_eq!((known(&*padded, None), known(&*kept, None)), (Some((4, 6)), None));
        assert_eq!(known(&*kept, Some((3, 9))), Some((3, 6)));
    }

    #[test]
    fn an_object_without_a_mask_is_cut_or_dropped() {
        let mut unmasked = sample(4, 8);
        unmasked.target.instances.annotate(0, [1.0, 1.0, 6.0, 3.0], Mask::Polygons(Vec::new()));
        unmasked.target.instances.annotate(0, [5.0, 1.0, 6.0, 3.0], Mask::Polygons(Vec::new()));
        unmasked.target.instances.masks.clear();
        let crop = FixedSizeCrop { size: Size::Single(4), pad: None };
        assert_eq!(crop.crop(unmasked, 0.0).unwrap().target.instances.boxes, [[1.0, 1.0, 4.0, 3.0]]);
    }

    #[test]
    fn a_size_of_nothing_is_a_problem() {
        let crop = FixedSizeCrop { size: Size::Single(0), pad: None };
        assert_eq!(crop.output(SampleShape::default()).unwrap_err().key, "size");
        assert_eq!(
            apply(&FixedSizeCrop { size: Size::Single(2), pad: Some(7) }, sample(1, 1), 0).get_pixel(1, 0),
            &Rgb([7; 3])
        );
    }
}
