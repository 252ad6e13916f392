use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, MAX_SIDE, Sample, Size};
use convmae_framework::random::Rng;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, check_size};

/// Keeps a part of fixed size from anywhere in the image, as torchvision's `RandomCrop`; for CIFAR, 32 with a
/// padding of 4.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Side of the square that is kept, or `[height, width]`.
    pub size: Size,
    /// Black pixels added on every side before cropping.
    #[serde(default)]
    #[schemars(range(max = MAX_SIDE))]
    pub padding: usize,
}

impl RandomCrop {
    fn fits(&self, (height, width): (usize, usize)) -> bool {
        let (rows, columns) = self.size.height_width();
        let padded = |side: usize| self.padding.saturating_mul(2).saturating_add(side);
        rows <= padded(height) && columns <= padded(width)
    }
}

#[typetag::serde]
impl Transform for RandomCrop {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        sample.check_pixels("RandomCrop")?;
        let (height, width) = self.size.height_width();
        if !self.fits(sample.size()) {
            let reason =
                format!("too small for a crop of {height} x {width}: add `padding`, or a `Resize` before");
            return Err(sample.misfit("RandomCrop", &reason));
        }
        let sample = sample.pad([self.padding; 4], 0, "RandomCrop")?;
        let (rows, columns) = sample.size();
        let top = rng.random_range(0..=(rows - height) as u32) as usize;
        let left = rng.random_range(0..=(columns - width) as u32) as usize;
        let crop = CropBox { top, left, height, width };
        sample.crop_and_resize(crop, (height, width), Interpolation::default(), "RandomCrop")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("RandomCrop", input)?;
        check_size(self.size)?;
        if self.padding > MAX_SIDE {
            return Err(Problem::new("padding", format!("a padding of {} is too large", self.padding))
                .help(format!("at most {MAX_SIDE}")));
        }
        let (height, width) = self.size.height_width();
        if let Some((rows, columns)) = input.size
            && !self.fits((rows, columns))
        {
            let message = format!(
                "a crop of {height} x {width} from images of {rows} x {columns} with a padding of {}",
                self.padding
            );
            return Err(Problem::new("size", message)
                .help("a smaller `size`, a larger `padding`, or a `Resize` before `RandomCrop`"));
        }
        Ok(SampleShape { size: Some((height, width)), ..input })
    }
}

convmae_framework::register!(Transform: RandomCrop);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn every_offset_comes_up() {
        let crop = parse(r#"{ "type": "RandomCrop", "size": 6 }"#);
        let corners: std::collections::BTreeSet<_> =
            (0..200).map(|seed| apply(&*crop, sample(8, 7), seed).get_pixel(0, 0).0).collect();
        assert_eq!(corners.len(), 3 * 2);
    }

    #[test]
    fn padding_is_black() {
        let crop = RandomCrop { size: Size::Single(6), padding: 1 };
        let image = apply(&crop, sample(4, 4), 0);
        assert!(image.pixels().take(6).all(|pixel| pixel.0 == [0; 3]));
        assert_eq!(image.get_pixel(4, 4).0, [3, 3, 0]);
    }

    #[test]
    fn a_crop_larger_than_the_padded_image_is_refused() {
        let crop = RandomCrop { size: Size::Single(8), padding: 1 };
        let shape =
            |side| SampleShape { size: Some((side, side)), normalized: false, ..SampleShape::default() };
        assert!(crop.output(shape(6)).is_ok());
        assert_eq!(crop.output(shape(5)).unwrap_err().key, "size");
        let mut rng = convmae_framework::random::stream(convmae_framework::random::Purpose::Augment, &[]);
        let error = crop.apply(sample(5, 9), &mut rng).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn sizes_and_paddings_beyond_any_image_are_refused() {
        let refused =
            |size, padding| RandomCrop { size, padding }.output(SampleShape::default()).unwrap_err().key;
        assert_eq!(refused(Size::Single(8), 1 << 31), "padding");
        assert_eq!(refused(Size::Single(8), usize::MAX), "padding");
        assert_eq!(refused(Size::Single(65_535), 0), "size");
        assert_eq!(refused(Size::HeightWidth([1, usize::MAX]), 0), "size");
    }
}
