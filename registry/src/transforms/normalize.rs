use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, Normalization, Pixels, Sample};
use convmae_framework::random::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_pixels;

/// Pixels to floats: `(pixel / 255 - mean) / std`, channel by channel. The last of the transforms but for
/// `RandomErasing`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Normalize {
    /// Mean of red, green and blue, of pixels in 0 to 1; by default that of `ImageNet`.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue; by default that of `ImageNet`.
    pub std: [f64; 3],
}

impl Default for Normalize {
    fn default() -> Self {
        Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }
}

impl Normalize {
    fn single(&self) -> Normalization {
        let single = |values: [f64; 3]| values.map(|value| value as f32);
        Normalization { mean: single(self.mean), std: single(self.std) }
    }
}

#[typetag::serde]
impl Transform for Normalize {
    fn apply(&self, sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        let image = sample.rgb("Normalize")?;
        let normalization = self.single();
        let mut values = Vec::new();
        normalization.append(image, &mut values);
        let (height, width) = sample.size();
        Ok(Sample { pixels: Pixels::Normalized { values, height, width, normalization }, ..sample })
    }

    fn normalization(&self) -> Option<Normalization> {
        Some(self.single())
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("Normalize", input)?;
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(
                Problem::new("std", format!("{:?} is no standard deviation", self.std)).help("above 0")
            );
        }
        Ok(SampleShape { normalized: true, ..input })
    }
}

convmae_framework::register!(Transform: Normalize);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::panic)]

    use convmae_framework::data::Batch;
    use convmae_framework::random::{self, Purpose};

    use super::super::testing::{parse, sample};
    use super::*;

    #[test]
    fn channels_come_one_after_the_other() {
        let normalize = Normalize { mean: [0.0, 0.5, 0.0], std: [1.0 / 255.0, 1.0, 1.0] };
        let normalized = normalize.apply(sample(2, 2), &mut random::stream(Purpose::Augment, &[])).unwrap();
        let Pixels::Normalized { values, height: 2, width: 2, normalization } = normalized.pixels else {
            panic!("not normalised");
        };
        assert_eq!(values[..4], [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(values[4..8], [-0.5, -0.5, 1.0 / 255.0 - 0.5, 1.0 / 255.0 - 0.5]);
        assert_eq!(normalization.mean[1], 0.5);
    }

    #[test]
    fn left_to_batching_it_gives_the_same_bits() {
        let normalize = parse(r#"{ "type": "Normalize" }"#);
        let samples = || vec![sample(7, 300), sample(7, 300)];
        let mut rng = random::stream(Purpose::Augment, &[]);
        let normalized =
            samples().into_iter().map(|sample| normalize.apply(sample, &mut rng)).collect::<Result<_, _>>();
        let after = Batch::stack(normalized.unwrap(), None).unwrap();
        let within = Batch::normalize_and_stack(samples(), normalize.normalization().unwrap(), None).unwrap();
        assert_eq!(within.images, after.images);
        assert_eq!((within.height, within.width, within.normalization), (7, 300, after.normalization));
    }

    #[test]
    fn twice_is_a_problem() {
        let normalize = parse(r#"{ "type": "Normalize" }"#);
        let once = normalize.output(SampleShape::default()).unwrap();
        assert!(once.normalized);
        assert!(normalize.output(once).is_err());
    }

    #[test]
    fn a_deviation_of_zero_is_a_problem() {
        let normalize = Normalize { std: [0.2, 0.0, 0.2], ..Normalize::default() };
        assert_eq!(normalize.output(SampleShape::default()).unwrap_err().key, "std");
    }
}
