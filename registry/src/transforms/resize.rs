use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, Sample, Size};
use convmae_framework::random::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, check_size};

/// Resizes the image, as torchvision's `Resize` on Pillow images.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// One number: the length of the shorter side, the longer one follows. `[height, width]`: exactly that.
    pub size: Size,
    /// How pixels between pixels are found.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl Resize {
    fn output_size(&self, (height, width): (usize, usize)) -> (usize, usize) {
        match self.size {
            Size::HeightWidth([height, width]) => (height, width),
            Size::Single(short) if height <= width => (short, short * width / height),
            Size::Single(short) => (short * height / width, short),
        }
    }
}

#[typetag::serde]
impl Transform for Resize {
    fn apply(&self, sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        let (height, width) = sample.size();
        let size = self.output_size((height, width));
        sample.crop_and_resize(CropBox::whole(height, width), size, self.interpolation, "Resize")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("Resize", input)?;
        check_size(self.size)?;
        let size = match self.size {
            Size::HeightWidth([height, width]) => Some((height, width)),
            Size::Single(_) => input.size.map(|size| self.output_size(size)),
        };
        Ok(SampleShape { size, ..input })
    }
}

convmae_framework::register!(Transform: Resize);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn one_number_is_the_shorter_side() {
        let resize = parse(r#"{ "type": "Resize", "size": 256 }"#);
        assert_eq!(apply(&*resize, sample(200, 301), 0).dimensions(), (385, 256));
        assert_eq!(apply(&*resize, sample(301, 200), 0).dimensions(), (256, 385));
        let known = SampleShape { size: Some((200, 301)), normalized: false, ..SampleShape::default() };
        assert_eq!(resize.output(known).unwrap().size, Some((256, 385)));
        assert_eq!(resize.output(SampleShape::default()).unwrap().size, None);
    }

    #[test]
    fn two_numbers_are_height_and_width() {
        let resize = parse(r#"{ "type": "Resize", "size": [20, 30], "interpolation": "bilinear" }"#);
        assert_eq!(apply(&*resize, sample(64, 64), 0).dimensions(), (30, 20));
        assert_eq!(resize.output(SampleShape::default()).unwrap().size, Some((20, 30)));
    }

    #[test]
    fn an_image_of_extreme_shape_is_the_fault_of_the_sample() {
        let resize = Resize { size: Size::Single(256), interpolation: Interpolation::Bicubic };
        let mut rng = convmae_framework::random::stream(convmae_framework::random::Purpose::Augment, &[]);
        for (height, width) in [(1, 900_000), (900_000, 1)] {
            let error = resize.apply(sample(height, width), &mut rng).unwrap_err();
            assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        }
    }

    #[test]
    fn after_normalize_it_is_a_problem() {
        let resize = Resize { size: Size::Single(8), interpolation: Interpolation::Bicubic };
        let problem = resize
            .output(SampleShape { size: None, normalized: true, ..SampleShape::default() })
            .unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("move `Resize` before `Normalize`"));
    }
}
