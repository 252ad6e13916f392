use convmae_framework::component::{Problem, SampleShape, Transform};
use convmae_framework::data::{DataError, MAX_PIXELS, MAX_SIDE, Sample};
use convmae_framework::random::Rng;
use image::GrayImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::opencv::resize;
use super::{between, check_pixels};

/// Resizes the image to fit into a random multiple of a size, keeping its proportions, as mmsegmentation's
/// `Resize` with `img_scale` and `ratio_range` on `OpenCV`: bilinear for the image, nearest for label maps
/// and masks. Without `ratio`, that of evaluation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResizeRange {
    /// What the longer and the shorter side are at most, in pixels; one of them is exactly that.
    #[schemars(inner(range(min = 1, max = MAX_SIDE)))]
    pub scale: [usize; 2],
    /// Smallest and largest multiple of `scale`; by default neither shrunk nor enlarged.
    pub ratio: [f64; 2],
    /// Leaves the label map as large as it is: for evaluation, where predictions are resized to it.
    pub keep_label_map: bool,
}

impl Default for ResizeRange {
    fn default() -> Self {
        Self { scale: [2048, 512], ratio: [1.0, 1.0], keep_label_map: false }
    }
}

impl ResizeRange {
    /// The sides at most, the longer one first, at a multiple of `scale`.
    fn limits(&self, ratio: f64) -> [usize; 2] {
        let [a, b] = self.scale.map(|side| (side as f64 * ratio) as usize);
        [a.max(b), a.min(b)]
    }

    /// Height and width of an image of height and width `size` (`imrescale` of mmcv).
    fn size(&self, size: (usize, usize), ratio: f64) -> (usize, usize) {
        let [long, short] = self.limits(ratio).map(|side| side as f64);
        let (height, width) = (size.0 as f64, size.1 as f64);
        let factor = (long / height.max(width)).min(short / height.min(width));
        ((height * factor + 0.5) as usize, (width * factor + 0.5) as usize)
    }

    /// Resizes for a given multiple of `scale`.
    pub(super) fn resize(&self, mut sample: Sample, ratio: f64) -> Result<Sample, DataError> {
        sample.check_pixels("ResizeRange")?;
        sample.check_maps("ResizeRange")?;
        let from = sample.size();
        let (height, width) = self.size(from, ratio);
        if height == 0 || width == 0 {
            let reason = format!("too narrow: it would become {height} x {width}");
            return Err(sample.misfit("ResizeRange", &reason));
        }
        sample.pixels = resize::linear(sample.pixels, (height, width));
        if let Some(map) = &mut sample.target.semantic
            && !self.keep_label_map
        {
            *map = resize::nearest(map, height, width);
        }
        let (x, y) = (width as f32 / from.1 as f32, height as f32 / from.0 as f32);
        let point = |[px, py]: [f64; 2]| [px * f64::from(x), py * f64::from(y)];
        sample.target.instances.transform(|bbox, mask| {
            let [x0, y0, x1, y1] = *bbox;
            *bbox = [x0 * x, y0 * y, x1 * x, y1 * y];
            let pixels = |map: &GrayImage| resize::nearest(map, height, width);
            mask.is_none_or(|mask| mask.transform((height, width), point, pixels))
        });
        Ok(sample)
    }
}

#[typetag::serde]
impl Transform for ResizeRange {
    fn apply(&self, sample: Sample, rng: &mut Rng) -> Result<Sample, DataError> {
        let [low, high] = self.ratio;
        self.resize(sample, between(rng, low, high))
    }

    fn output(&self, input: SampleShape) -> Result<SampleShape, Problem> {
        check_pixels("ResizeRange", input)?;
        if self.scale.iter().any(|&side| !(1..=MAX_SIDE).contains(&side)) {
            return Err(Problem::new("scale", format!("{:?} is no size", self.scale))
                .help(format!("longer and shorter side, 1 to {MAX_SIDE}, such as [2048, 512]")));
        }
        let [low, high] = self.ratio;
        if !(0.0 < low && low <= high && high.is_finite()) {
            return Err(Problem::new("ratio", format!("[{low}, {high}] is no range of ratios"))
                .help("[smallest, largest] multiple of `scale`, such as [0.5, 2.0]"));
        }
        if self.limits(low)[1] == 0 {
            return Err(Problem::new("ratio", format!("{low} of {:?} is less than a pixel", self.scale))
                .help("a larger `ratio` or `scale`"));
        }
        let [long, short] = self.limits(high);
        if long > MAX_SIDE || long as u64 * short as u64 > MAX_PIXELS {
            return Err(Problem::new("ratio", format!("up to {long} x {short} is too large"))
                .help(format!("at most {MAX_SIDE} a side, and {MAX_PIXELS} pixels")));
        }
        let fixed = low.to_bits() == high.to_bits();
        Ok(SampleShape { size: input.size.filter(|_| fixed).map(|size| self.size(size, low)), ..input })
    }
}

convmae_framework::register!(Transform: ResizeRange);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, clippy::panic)]

    use convmae_framework::data::{Mask, Rle};
    use convmae_framework::random::{self, Purpose};
    use image::Luma;

    use super::super::mmseg_golden::Golden;
    use super::super::testing::{apply, parse, sample};
    use super::*;

    const ADE20K: &str = r#"{ "type": "ResizeRange", "scale": [2048, 512], "ratio": [0.5, 2.0] }"#;

    #[test]
    fn sizes_are_those_of_mmsegmentation() {
        let resize = ResizeRange { ratio: [0.5, 2.0], ..ResizeRange::default() };
        let golden = Golden::read();
        for case in golden.cases("sizes") {
            let ratio = case.number("u").map_or(1.0, |u| 0.5 + (2.0 - 0.5) * u);
            assert_eq!(resize.size(case.pair("hw"), ratio), case.pair("out_hw"), "{ratio}");
        }
    }

    #[test]
    fn sizes_fill_the_range() {
        let resize = parse(r#"{ "type": "ResizeRange", "scale": [80, 20], "ratio": [0.5, 2.0] }"#);
        let heights: Vec<_> = (0..200).map(|seed| apply(&*resize, sample(30, 40), seed).height()).collect();
        assert_eq!((heights.iter().min(), heights.iter().max()), (Some(&10), Some(&39)));
    }

    #[test]
    fn evaluation_has_a_known_size_and_may_keep_the_label_map() {
        let resize = parse(r#"{ "type": "ResizeRange", "scale": [32, 8], "keep_label_map": true }"#);
        let shape = resize
            .output(SampleShape { size: Some((4, 6)), normalized: false, ..SampleShape::default() })
            .unwrap();
        assert_eq!(shape.size, Some((8, 12)));
        let mut labelled = sample(4, 6);
        labelled.target.semantic = Some(GrayImage::new(6, 4));
        let resized = resize.apply(labelled, &mut random::stream(Purpose::Augment, &[])).unwrap();
        assert_eq!(resized.size(), (8, 12));
        assert_eq!(resized.target.semantic.unwrap().dimensions(), (6, 4));
    }

    #[test]
    fn boxes_and_masks_are_resized_with_the_image() {
        let resize = ResizeRange { scale: [32, 8], ..ResizeRange::default() };
        let mask = GrayImage::from_fn(6, 4, |x, y| Luma([if x >= 2 && y >= 1 { 255 } else { 0 }]));
        let mut labelled = sample(4, 6);
        labelled.target.instances.annotate(0, [2.0, 1.0, 6.0, 4.0], Mask::Rle(Rle::encode(&mask)));
        let resized = resize.resize(labelled, 1.0).unwrap().target.instances;
        assert_eq!(resized.boxes, [[4.0, 2.0, 12.0, 8.0]]);
        let Mask::Rle(runs) = &resized.masks[0] else { panic!("run lengths stay run lengths") };
        let mask = runs.decode();
        let on = mask.enumerate_pixels().filter(|pixel| pixel.2.0[0] == 255);
        assert!(on.clone().all(|(x, y, _)| x >= 4 && y >= 2) && on.count() == 8 * 6);
    }

    #[test]
    fn an_image_that_would_vanish_is_the_fault_of_the_sample() {
        let resize = parse(ADE20K);
        let mut rng = random::stream(Purpose::Augment, &[]);
        let error = resize.apply(sample(1, 20_000), &mut rng).unwrap_err();
        assert!(matches!(error, DataError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("too narrow: it would become 0 x "), "{error}");
    }

    #[test]
    fn sizes_and_ratios_that_are_none_are_problems() {
        let key = |scale, ratio| {
            let resize = ResizeRange { scale, ratio, ..ResizeRange::default() };
            resize.output(SampleShape::default()).unwrap_err().key
        };
        assert_eq!(key([0, 512], [0.5, 2.0]), "scale");
        assert_eq!(key([512, 1 << 40], [0.5, 2.0]), "scale");
        assert_eq!(key([2048, 512], [2.0, 0.5]), "ratio");
        assert_eq!(key([2048, 512], [f64::NAN, 2.0]), "ratio");
        assert_eq!(key([2048, 512], [0.001, 2.0]), "ratio");
        assert_eq!(key([2048, 512], [0.5, 100.0]), "ratio");
        assert_eq!(parse(ADE20K).output(SampleShape::default()).unwrap().size, None);
    }
}
