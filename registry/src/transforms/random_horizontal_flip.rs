use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, Sample};
use convmae_framework::random::Rng;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check_pixels;

/// Mirrors some of the images left to right.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomHorizontalFlip {
    /// Probability of being mirrored.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

impl Default for RandomHorizontalFlip {
    fn default() -> Self {
        Self { probability: 0.5 }
    }
}

#[typetag::serde]
impl Transform for RandomHorizontalFlip {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        if rng.random::<f64>() < self.probability {
            sample.flip_horizontal("RandomHorizontalFlip")
        } else {
            Ok(sample)
        }
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("RandomHorizontalFlip", input)?;
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(Problem::new("probability", format!("{} is no probability", self.probability))
                .help("between 0 and 1"));
        }
        Ok(input)
    }
}

convmae_framework::register!(Transform: RandomHorizontalFlip);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{apply, parse, sample};
    use super::*;

    #[test]
    fn about_half_of_the_images_are_mirrored() {
        let flip = parse(r#"{ "type": "RandomHorizontalFlip" }"#);
        let first = |seed| apply(&*flip, sample(1, 4), seed).get_pixel(0, 0).0[0];
        let mirrored = (0..400).filter(|&seed| first(seed) == 3).count();
        assert!((160..240).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn never_and_always_are_possible() {
        for (probability, first) in [(0.0, 0), (1.0, 3)] {
            let flip = RandomHorizontalFlip { probability };
            assert!((0..20).all(|seed| apply(&flip, sample(1, 4), seed).get_pixel(0, 0).0[0] == first));
        }
    }

    #[test]
    fn a_probability_above_one_is_a_problem() {
        let flip = RandomHorizontalFlip { probability: 1.5 };
        assert_eq!(flip.output(SampleShape::default()).unwrap_err().key, "probability");
    }
}
