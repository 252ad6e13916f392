//! The transforms of segmentation against mmsegmentation 0.11 on `OpenCV`, fed with the random numbers that
//! it drew.

#![allow(clippy::unwrap_used, clippy::panic)]

use convmae_framework::component::Transform as _;
use convmae_framework::data::{CropBox, Interpolation, Pixels, Sample, Size, Target};
use convmae_framework::random::{self, Purpose};
use image::{GrayImage, RgbImage};
use safetensors::SafeTensors;
use serde_json::Value;

use super::photo_metric_distortion::Step;
use super::testing::parse;
use super::{Pad, ResizeRange, SemanticCrop};

/// The golden files.
pub struct Golden {
    bytes: &'static [u8],
    json: Value,
}

/// One entry of the golden's list of cases.
pub struct Case<'a>(&'a Value);

impl Golden {
    pub fn read() -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/segmentation/");
        let bytes = std::fs::read(format!("{folder}data_pipeline.safetensors")).unwrap();
        let json = std::fs::read(format!("{folder}data_pipeline.json")).unwrap();
        Self { bytes: bytes.leak(), json: serde_json::from_slice(&json).unwrap() }
    }

    pub fn cases(&self, list: &str) -> impl Iterator<Item = Case<'_>> {
        self.json[list].as_array().unwrap().iter().map(Case)
    }

    fn tensor(&self, name: &str) -> (&'static [u8], Vec<usize>) {
        let tensor = SafeTensors::deserialize(self.bytes).unwrap().tensor(name).unwrap();
        (tensor.data(), tensor.shape().to_vec())
    }

    pub fn bytes(&self, name: &str) -> &'static [u8] {
        self.tensor(name).0
    }

    /// An image, stored as BGR.
    pub fn rgb(&self, name: &str) -> RgbImage {
        let (bytes, shape) = self.tensor(name);
        let (pixels, _) = bytes.as_chunks::<3>();
        let rgb = pixels.iter().flat_map(|&[b, g, r]| [r, g, b]).collect();
        RgbImage::from_raw(shape[1] as u32, shape[0] as u32, rgb).unwrap()
    }

    pub fn labels(&self, name: &str) -> GrayImage {
        let (bytes, shape) = self.tensor(name);
        GrayImage::from_raw(shape[1] as u32, shape[0] as u32, bytes.to_vec()).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name).as_chunks::<4>();
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

impl Case<'_> {
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.0[key].as_f64()
    }

    pub fn pair(&self, key: &str) -> (usize, usize) {
        let number = |at: usize| self.0[key][at].as_u64().unwrap() as usize;
        (number(0), number(1))
    }

    /// The operations of `PhotoMetricDistortion` in order, and what they change.
    pub fn distortion(&self) -> Vec<(&'static str, Option<Step>)> {
        let mut draws = self.0["distortion"].as_array().unwrap().iter().map(|draw| draw.as_f64().unwrap());
        let coin = |draws: &mut dyn Iterator<Item = f64>| draws.next().unwrap() > 0.5;
        let step = |draws: &mut dyn Iterator<Item = f64>, name, make: fn(f64) -> Step| {
            let step = coin(draws).then(|| make(draws.next().unwrap()));
            (name, step)
        };
        let contrast: fn(f64) -> Step = |by| Step::Contrast(by as f32);
        let mut steps = vec![step(&mut draws, "brightness", |by| Step::Brightness(by as f32))];
        let contrast_first = draws.next().unwrap() > 0.5;
        if contrast_first {
            steps.push(step(&mut draws, "contrast", contrast));
        }
        steps.push(step(&mut draws, "saturation", |by| Step::Saturation(by as f32)));
        steps.push(step(&mut draws, "hue", |by| Step::Hue(by as i32)));
        if !contrast_first {
            steps.push(step(&mut draws, "contrast", contrast));
        }
        assert_eq!(draws.next(), None);
        steps
    }
}

const RESIZE: ResizeRange = ResizeRange { scale: [512, 96], ratio: [0.5, 2.0], keep_label_map: false };
const CROP: SemanticCrop = SemanticCrop { size: Size::Single(96), cat_max_ratio: 0.75 };

fn sample(golden: &Golden, name: &str) -> Sample {
    Sample::new(name.to_owned(), golden.rgb(&format!("{name}.image")), Target::default())
}

fn crop(sample: Sample, offsets: &Value) -> Sample {
    let (height, width) = sample.size();
    let mut offsets = offsets.as_array().unwrap().iter().map(|at| {
        let number = |axis: usize| at[axis].as_u64().unwrap() as usize;
        CropBox { top: number(0), left: number(1), height: height.min(96), width: width.min(96) }
    });
    let part = CROP.choose(sample.target.semantic.as_ref(), || offsets.next().unwrap());
    assert_eq!(offsets.next(), None, "{}: fewer parts are drawn", sample.id);
    sample.crop_and_resize(part, (part.height, part.width), Interpolation::default(), "SemanticCrop").unwrap()
}

fn normalize(sample: Sample) -> Sample {
    let mut rng = random::stream(Purpose::Augment, &[]);
    parse(r#"{ "type": "Normalize" }"#).apply(sample, &mut rng).unwrap()
}

/// mmsegmentation subtracts and divides pixels in 0 to 255, in double precision.
fn assert_near(sample: &Sample, golden: &[f32]) {
    let Pixels::Normalized { values, .. } = &sample.pixels else { panic!("not normalised") };
    assert_eq!(values.len(), golden.len());
    let error = values.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= 2e-6, "{}: {error}", sample.id);
}

#[test]
fn training_is_that_of_mmsegmentation() {
    let golden = Golden::read();
    for case in golden.cases("train") {
        let name = case.name();
        let mut sample = sample(&golden, name);
        sample.target.semantic = Some(golden.labels(&format!("{name}.label")));
        let ratio = 0.5 + (2.0 - 0.5) * case.number("ratio_draw").unwrap();
        let mut sample = crop(RESIZE.resize(sample, ratio).unwrap(), &case.0["offsets"]);
        if case.0["flip"] == true {
            sample = sample.flip_horizontal("RandomHorizontalFlip").unwrap();
        }
        if let Pixels::Rgb(image) = &mut sample.pixels {
            case.distortion().iter().filter_map(|(_, step)| *step).for_each(|step| step.apply(image));
        }
        let mut rng = random::stream(Purpose::Augment, &[]);
        let sample = Pad { size: Size::Single(96) }.apply(normalize(sample), &mut rng).unwrap();
        assert_near(&sample, &golden.floats(&format!("{name}.final.image")));
        let labels = golden.bytes(&format!("{name}.final.label"));
        assert!(sample.target.semantic.unwrap().as_raw() == labels, "{name}: label");
    }
}

#[test]
fn evaluation_is_that_of_mmsegmentation() {
    let golden = Golden::read();
    for case in golden.cases("test") {
        let name = case.name();
        let sample = normalize(RESIZE.resize(sample(&golden, name), 1.0).unwrap());
        assert_eq!(sample.size(), case.pair("out_hw"));
        assert_near(&sample, &golden.floats(&format!("{name}.final")));
    }
}
