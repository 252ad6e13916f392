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
    /// Mean of every channel, of pixels in 0 to 1; by default those of red, green and blue in `ImageNet`.
    #[schemars(length(min = 1))]
    pub mean: Vec<f64>,
    /// Standard deviation of every channel; by default those of `ImageNet`.
    #[schemars(length(min = 1))]
    pub std: Vec<f64>,
}

impl Default for Normalize {
    fn default() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }
}

impl Normalize {
    fn single(&self) -> Normalization {
        let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
        Normalization { mean: single(&self.mean), std: single(&self.std) }
    }
}

#[typetag::serde]
impl Transform for Normalize {
    fn apply(&self, sample: Sample, _: &mut Rng) -> Result<Sample, DataError> {
        sample.check_pixels("Normalize")?;
        let normalization = self.single();
        let values = sample.pixels.normalized(&normalization)?;
        let (height, width) = sample.size();
        Ok(Sample { pixels: Pixels::Normalized { values, height, width, normalization }, ..sample })
    }

    fn normalization(&self) -> Option<Normalization> {
        Some(self.single())
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("Normalize", input)?;
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != input.channels {
                let message =
                    format!("{} values, but the images have {} channels", values.len(), input.channels);
                return Err(Problem::new(key, message).help("one for each of the `image_channels`"));
            }
        }
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
        let normalize = Normalize { mean: vec![0.0, 0.5, 0.0], std: vec![1.0 / 255.0, 1.0, 1.0] };
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
        let within =
            Batch::normalize_and_stack(samples(), &normalize.normalization().unwrap(), None).unwrap();
        assert_eq!(within.images.values(), after.images.values());
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
        let normalize = Normalize { std: vec![0.2, 0.0, 0.2], ..Normalize::default() };
        assert_eq!(normalize.output(SampleShape::default()).unwrap_err().key, "std");
    }

    #[test]
    fn every_channel_has_a_mean_and_a_deviation() {
        let key = |normalize: &Normalize, channels| {
            normalize
                .output(SampleShape { channels, ..SampleShape::default() })
                .err()
                .map(|problem| problem.key)
        };
        let four = Normalize { mean: vec![0.5; 4], std: vec![0.25; 4] };
        assert_eq!(key(&four, 4), None);
        assert_eq!(key(&four, 3).as_deref(), Some("mean"));
        assert_eq!(key(&Normalize { std: vec![0.25], ..four }, 4).as_deref(), Some("std"));
        assert_eq!(key(&Normalize::default(), 1).as_deref(), Some("mean"));
    }
}
