use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, MAX_PIXELS, MAX_SIDE, Sample};
use convmae_framework::random::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_pixels, resize_bilinear};

/// Resizes the image so that its shorter side has a length, or its longer one the greatest that is allowed,
/// as detectron2's `ResizeShortestEdge`: bilinear for the image, nearest for label maps and masks of pixels.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResizeShortestEdge {
    /// Length of the shorter side in pixels.
    #[schemars(range(min = 1, max = MAX_SIDE))]
    pub size: usize,
    /// Greatest length of the longer side in pixels.
    #[schemars(range(min = 1, max = MAX_SIDE))]
    pub max_size: usize,
}

impl Default for ResizeShortestEdge {
    fn default() -> Self {
        Self { size: 800, max_size: 1333 }
    }
}

impl ResizeShortestEdge {
    /// Height and width of an image of `rows` x `columns`.
    pub(super) fn shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        let shortest = self.size as f64;
        let scale = shortest / rows.min(columns) as f64;
        let (height, width) = match rows < columns {
            true => (shortest, scale * columns as f64),
            false => (scale * rows as f64, shortest),
        };
        let limit = self.max_size as f64;
        let longest = height.max(width);
        let fit = if longest > limit { limit / longest } else { 1.0 };
        ((height * fit + 0.5) as usize, (width * fit + 0.5) as usize)
    }
}

#[typetag::serde]
impl Transform for ResizeShortestEdge {
    fn apply(&self, sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        let shape = self.shape(sample.size());
        resize_bilinear(sample, shape, "ResizeShortestEdge")
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("ResizeShortestEdge", input)?;
        for (key, side) in [("size", self.size), ("max_size", self.max_size)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return Err(Problem::new(key, format!("{side} is no length of a side"))
                    .help(format!("1 to {MAX_SIDE} pixels")));
            }
        }
        let largest = self.size.min(self.max_size) as u64 * self.max_size as u64;
        if largest > MAX_PIXELS {
            return Err(Problem::new("max_size", format!("up to {largest} pixels are too many"))
                .help(format!("at most {MAX_PIXELS} pixels")));
        }
        Ok(SampleShape { size: input.size.map(|size| self.shape(size)), ..input })
    }
}

convmae_framework::register!(Transform: ResizeShortestEdge);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn either_the_shorter_side_or_the_longer_one_is_met() {
        let resize = parse(r#"{ "type": "ResizeShortestEdge", "size": 20, "max_size": 30 }"#);
        for (from, to) in
            [((10, 12), (20, 24)), ((12, 10), (24, 20)), ((10, 40), (8, 30)), ((7, 7), (20, 20))]
        {
            assert_eq!(apply(&*resize, sample(from.0, from.1), 0).dimensions(), (to.1, to.0));
            let shape = SampleShape {
                size: Some((from.0 as usize, from.1 as usize)),
                normalized: false,
                ..SampleShape::default()
            };
            assert_eq!(resize.output(shape).unwrap().size, Some((to.0 as usize, to.1 as usize)));
        }
    }

    #[test]
    fn an_image_that_would_vanish_is_the_fault_of_the_sample() {
        let resize = ResizeShortestEdge { size: 4, max_size: 8 };
        let mut rng = convmae_framework::random::stream(convmae_framework::random::Purpose::Augment, &[]);
        let error = resize.apply(sample(1, 100), &mut rng).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("too narrow: it would become 0 x 8"), "{error}");
    }

    #[test]
    fn lengths_that_are_none_are_problems() {
        let key = |size, max_size| {
            ResizeShortestEdge { size, max_size }.output(SampleShape::default()).unwrap_err().key
        };
        assert_eq!(key(0, 1333), "size");
        assert_eq!(key(800, 1 << 40), "max_size");
        assert_eq!(key(65_000, 65_000), "max_size");
    }
}
