use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{CropBox, DataError, Pixels, Sample};
use convmae_framework::random::Rng;
use rand::Rng as _;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::between;

/// Overwrites a random rectangle of some of the images (Zhong et al. 2017), after `Normalize`, as
/// `RandomErasing` of timm 0.3.2. What is known of the image stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability of an image being changed.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// What the rectangle is filled with.
    pub mode: ErasingMode,
    /// Smallest and largest area of the rectangle, as a fraction of the image's; several rectangles share it.
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub area: [f64; 2],
    /// Smallest and largest ratio of the rectangle's height to its width.
    pub ratio: [f64; 2],
    /// Most rectangles an image; how many, from 1 on, is random.
    #[schemars(range(min = 1, max = 100))]
    pub count: u32,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            probability: 0.25,
            mode: ErasingMode::default(),
            area: [0.02, 1.0 / 3.0],
            ratio: [0.3, 1.0 / 0.3],
            count: 1,
        }
    }
}

/// What an erased rectangle is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErasingMode {
    /// The mean colour: 0 after `Normalize`.
    Const,
    /// One random colour, normally distributed.
    Rand,
    /// A random colour for every pixel, normally distributed.
    #[default]
    Pixel,
}

/// Attempts at a rectangle that lies within the image.
const ATTEMPTS: usize = 10;

impl RandomErasing {
    /// A rectangle smaller than the image: area uniform, ratio log-uniform; none if no attempt fits.
    fn draw(&self, height: usize, width: usize, count: u32, rng: &mut Rng) -> Option<CropBox> {
        let image = (height * width) as f64;
        let [low, high] = self.ratio.map(f64::ln);
        (0..ATTEMPTS).find_map(|_| {
            let area = between(rng, self.area[0], self.area[1]) * image / f64::from(count);
            let ratio = between(rng, low, high).exp();
            // Half to even, as Python's `round`.
            let rows = (area * ratio).sqrt().round_ties_even() as usize;
            let columns = (area / ratio).sqrt().round_ties_even() as usize;
            (rows < height && columns < width).then(|| CropBox {
                top: rng.random_range(0..=(height - rows) as u32) as usize,
                left: rng.random_range(0..=(width - columns) as u32) as usize,
                height: rows,
                width: columns,
            })
        })
    }

    /// Fills a rectangle of one channel, `[height, width]`.
    fn fill(&self, channel: &mut [f32], width: usize, area: CropBox, rng: &mut Rng) {
        let color: f32 = match self.mode {
            ErasingMode::Rand => rng.sample(StandardNormal),
            ErasingMode::Const | ErasingMode::Pixel => 0.0,
        };
        for row in channel.chunks_exact_mut(width).skip(area.top).take(area.height) {
            let erased = &mut row[area.left..area.left + area.width];
            if self.mode == ErasingMode::Pixel {
                erased.fill_with(|| rng.sample(StandardNormal));
            } else {
                erased.fill(color);
            }
        }
    }
}

#[typetag::serde]
impl Transform for RandomErasing {
    fn apply(&self, mut sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        let Pixels::Normalized { values, height, width, .. } = &mut sample.pixels else {
            let reason = "`RandomErasing` works on normalised pixels: put it after `Normalize`";
            return Err(DataError::Transform(format!("{}: {reason}", sample.id)));
        };
        let (height, width) = (*height, *width);
        if rng.random::<f64>() < self.probability {
            let count = rng.random_range(1..=self.count.max(1));
            for _ in 0..count {
                let Some(area) = self.draw(height, width, count, rng) else { continue };
                for channel in values.chunks_exact_mut(height * width) {
                    self.fill(channel, width, area, rng);
                }
            }
        }
        Ok(sample)
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        if !input.normalized {
            return Err(Problem::new("", "`RandomErasing` works on normalised pixels")
                .help("put it after `Normalize`"));
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(Problem::new("probability", format!("{} is no probability", self.probability))
                .help("between 0 and 1"));
        }
        let [low, high] = self.area;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            return Err(Problem::new("area", format!("[{low}, {high}] is no range of fractions"))
                .help("[smallest, largest], from 0 to 1, such as [0.02, 0.3333]"));
        }
        let [low, high] = self.ratio;
        if !(0.0 < low && low <= high && high.is_finite()) {
            return Err(Problem::new("ratio", format!("[{low}, {high}] is no range of ratios"))
                .help("[smallest, largest] of height / width, such as [0.3, 3.3333]"));
        }
        if self.count == 0 {
            return Err(
                Problem::new("count", "no rectangle").help("at least 1; or leave `RandomErasing` out")
            );
        }
        Ok(input)
    }
}

convmae_framework::register!(Transform: RandomErasing);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use convmae_framework::random::{self, Purpose};
    use proptest::prelude::*;

    use super::super::testing::{parse, sample};
    use super::*;

    /// What it leaves of pixels that are all 100, `[3, height, width]`.
    fn erase(erasing: &dyn Transform, height: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut rng = random::stream(Purpose::Augment, &[seed]);
        let normalize = parse(r#"{ "type": "Normalize" }"#);
        let mut sample = normalize.apply(sample(height as u32, width as u32), &mut rng).unwrap();
        if let Pixels::Normalized { values, .. } = &mut sample.pixels {
            values.fill(100.0);
        }
        match erasing.apply(sample, &mut rng).unwrap().pixels {
            Pixels::Normalized { values, .. } => values,
            Pixels::Rgb(_) | Pixels::Channels(_) => panic!("not normalised"),
        }
    }

    fn always(mode: ErasingMode) -> RandomErasing {
        RandomErasing { probability: 1.0, mode, ..RandomErasing::default() }
    }

    fn erased(values: &[f32]) -> Vec<f32> {
        values.iter().copied().filter(|&value| value != 100.0).collect()
    }

    #[test]
    fn the_default_is_that_of_finetuning() {
        let erasing = parse(r#"{ "type": "RandomErasing" }"#);
        let changed = (0..800).filter(|&seed| !erased(&erase(&*erasing, 16, 16, seed)).is_empty()).count();
        assert!((150..250).contains(&changed), "{changed}");
        let json = serde_json::to_value(&erasing).unwrap();
        assert_eq!((&json["mode"], &json["count"]), (&"pixel".into(), &1.into()));
    }

    #[test]
    fn areas_fill_their_range() {
        let share = |seed| erased(&erase(&always(ErasingMode::Const), 64, 48, seed)).len() as f64 / 9216.0;
        let (low, high) = (0..500).map(share).fold((1.0_f64, 0.0_f64), |(l, h), s| (l.min(s), h.max(s)));
        assert!((0.015..0.03).contains(&low) && (0.31..0.345).contains(&high), "{low} {high}");
    }

    #[test]
    fn modes_are_nothing_a_colour_and_noise() {
        assert!(erased(&erase(&always(ErasingMode::Const), 32, 32, 0)).iter().all(|&value| value == 0.0));
        let color = erase(&always(ErasingMode::Rand), 32, 32, 0);
        let of: Vec<_> = color.chunks_exact(1024).map(erased).collect();
        assert!(of.iter().all(|channel| channel.iter().all(|value| *value == channel[0])));
        assert!(of[0][0] != of[1][0] && of[1][0] != of[2][0]);
        let noise: Vec<_> =
            (0..100).flat_map(|seed| erased(&erase(&always(ErasingMode::Pixel), 32, 32, seed))).collect();
        let mean = noise.iter().sum::<f32>() / noise.len() as f32;
        let variance = noise.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / noise.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    #[test]
    fn several_rectangles_share_the_area() {
        let erasing = RandomErasing { count: 4, ..always(ErasingMode::Const) };
        let most = (0..300).map(|seed| erased(&erase(&erasing, 32, 32, seed)).len()).max().unwrap();
        assert!(most <= 3 * 1024 * 2 / 5, "{most}");
    }

    #[test]
    fn before_normalize_it_is_a_problem() {
        let problem = always(ErasingMode::Pixel).output(SampleShape::default()).unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("put it after `Normalize`"));
        let mut rng = random::stream(Purpose::Augment, &[]);
        let error = always(ErasingMode::Pixel).apply(sample(4, 4), &mut rng).unwrap_err();
        assert!(error.to_string().contains("put it after `Normalize`"), "{error}");
    }

    #[test]
    fn ranges_that_are_none_are_problems() {
        let key = |erasing: RandomErasing| {
            erasing
                .output(SampleShape { size: None, normalized: true, ..SampleShape::default() })
                .unwrap_err()
                .key
        };
        let erasing = || always(ErasingMode::Pixel);
        assert_eq!(key(RandomErasing { probability: f64::NAN, ..erasing() }), "probability");
        assert_eq!(key(RandomErasing { area: [0.3, 0.2], ..erasing() }), "area");
        assert_eq!(key(RandomErasing { ratio: [0.0, 1.0], ..erasing() }), "ratio");
        assert_eq!(key(RandomErasing { count: 0, ..erasing() }), "count");
    }

    proptest! {
        #[test]
        fn any_image_can_be_erased(height in 1_usize..40, width in 1_usize..40, seed: u64, count in 1_u32..5) {
            let erasing = RandomErasing { count, area: [0.0, 1.0], ..always(ErasingMode::Rand) };
            prop_assert_eq!(erase(&erasing, height, width, seed).len(), 3 * height * width);
        }
    }
}
