//! The transforms against torchvision 0.29 and Pillow 13: equal to the last bit.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use convmae_framework::component::{SampleShape, Samples, Transform};
use convmae_framework::data::{CropBox, DataError, Interpolation, Mask, Pixels, Sample, Target, read_rgb};
use convmae_framework::loader::{Loader, LoaderOptions, Pipeline, output_shape};
use convmae_framework::random::{self, Purpose};
use convmae_registry as _;
use image::RgbImage;
use safetensors::SafeTensors;
use serde_json::json;

fn data(name: &str) -> PathBuf {
    crate::support::data("transforms").join(name)
}

fn sample(name: &str) -> Sample {
    let image = read_rgb(&data(name)).unwrap();
    Sample::new(name.to_owned(), image, Target::default())
}

fn apply(transform: serde_json::Value, sample: Sample) -> Sample {
    let transform: Box<dyn Transform> = serde_json::from_value(transform).unwrap();
    transform.apply(sample, &mut random::stream(Purpose::Augment, &[])).unwrap()
}

fn assert_equal(sample: &Sample, golden: &str) {
    assert!(sample.rgb("").unwrap() == &read_rgb(&data(golden)).unwrap(), "differs from {golden}");
}

#[test]
fn evaluation_is_resize_and_center_crop() {
    let resized = apply(json!({ "type": "Resize", "size": 128 }), sample("chelsea.png"));
    let cropped = apply(json!({ "type": "CenterCrop", "size": 112 }), resized);
    assert_equal(&cropped, "chelsea_r128_c112.png");
}

#[test]
fn a_random_resized_crop_with_a_flip() {
    let crop = CropBox { top: 61, left: 17, height: 97, width: 129 };
    let resized =
        sample("chelsea.png").crop_and_resize(crop, (224, 224), Interpolation::Bicubic, "").unwrap();
    let flipped = apply(json!({ "type": "RandomHorizontalFlip", "probability": 1.0 }), resized);
    assert_equal(&flipped, "chelsea_rrc_1_flip.png");
}

#[test]
fn normalize_is_that_of_torchvision() {
    let bytes = std::fs::read(data("astronaut_normalized.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let golden = tensors.tensor("astronaut_r128_c112_normalized").unwrap();
    let golden: Vec<_> =
        golden.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let normalized = apply(json!({ "type": "Normalize" }), sample("astronaut_r128_c112.png"));
    let Pixels::Normalized { values, height: 112, width: 112, .. } = normalized.pixels else {
        panic!("size")
    };
    assert_eq!(values.len(), golden.len());
    let difference = values.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 1e-6, "{difference}");
}

/// The golden photograph, over and over.
struct Photos;

impl Samples for Photos {
    fn len(&self) -> usize {
        6
    }

    fn get(&self, _: usize) -> Result<Sample, DataError> {
        Ok(sample("chelsea.png"))
    }
}

/// Of the photos, in batches of three.
fn loader(transforms: Vec<Box<dyn Transform>>) -> Loader {
    let pipeline = Pipeline {
        samples: Box::new(Photos),
        transforms,
        batch_transforms: Vec::new(),
        pad_to: None,
        channels: 3,
        seed: 0,
    };
    Loader::new(pipeline.into(), LoaderOptions::train(3)).unwrap()
}

/// The images of every batch of an epoch.
fn images(loader: &Loader, epoch: u64) -> Vec<Vec<f32>> {
    loader.epoch(epoch, 0).map(|batch| batch.unwrap().images.into_vec()).collect()
}

#[test]
fn the_recipe_of_pretraining_loads_batches_that_differ_between_epochs() {
    let transforms: Vec<Box<dyn Transform>> = serde_json::from_value(json!([
        { "type": "RandomResizedCrop", "size": 64 },
        { "type": "RandomHorizontalFlip" },
        { "type": "Normalize" },
    ]))
    .unwrap();
    let loader = loader(transforms);
    let read = |epoch| images(&loader, epoch);
    let (first, second) = (read(0), read(1));
    assert_eq!(first.len(), 2);
    assert_eq!(first[0].len(), 3 * 3 * 64 * 64);
    assert_ne!(first, second);
    assert_eq!(first, read(0));
}

#[test]
fn the_recipe_of_finetuning_gives_normalised_batches() {
    let transforms: Vec<Box<dyn Transform>> = serde_json::from_value(json!([
        { "type": "RandomResizedCrop", "size": 64, "scale": [0.08, 1.0] },
        { "type": "RandomHorizontalFlip" },
        { "type": "RandAugment", "policy": "rand-m9-mstd0.5-inc1" },
        { "type": "Normalize" },
        { "type": "RandomErasing", "probability": 0.25, "mode": "pixel" },
    ]))
    .unwrap();
    let shape = output_shape(&transforms, SampleShape::default()).unwrap();
    assert_eq!(shape, SampleShape { size: Some((64, 64)), normalized: true, ..SampleShape::default() });
    let loader = loader(transforms);
    let read = |epoch| images(&loader, epoch);
    let first = read(0);
    assert_eq!((first.len(), first[0].len()), (2, 3 * 3 * 64 * 64));
    assert_ne!(first, read(1));
    assert_eq!(first, read(0));
}

#[test]
fn scenes_keep_their_targets_through_augmentation() {
    let scenes: Box<dyn convmae_framework::component::Dataset> =
        serde_json::from_value(json!({ "type": "SyntheticScenes", "length": 40 })).unwrap();
    let transforms: Vec<Box<dyn Transform>> = serde_json::from_value(json!([
        { "type": "RandomHorizontalFlip", "probability": 1.0 },
        { "type": "RandomCrop", "size": 64, "padding": 8 },
        { "type": "Resize", "size": 96 },
    ]))
    .unwrap();
    let pipeline = Pipeline {
        samples: scenes.open().unwrap(),
        transforms,
        batch_transforms: Vec::new(),
        pad_to: None,
        channels: 3,
        seed: 0,
    };
    for index in 0..40 {
        let sample = pipeline.sample(0, index).unwrap();
        let semantic = sample.target.semantic.unwrap();
        assert_eq!(semantic.dimensions(), (96, 96));
        let mut labelled = image::GrayImage::new(96, 96);
        let instances = &sample.target.instances;
        for ((bbox, class), mask) in instances.boxes.iter().zip(&instances.classes).zip(&instances.masks) {
            let [x0, y0, x1, y1] = *bbox;
            let Mask::Rle(runs) = mask else { panic!("scenes have masks of pixels") };
            for (x, y, _) in runs.decode().enumerate_pixels().filter(|pixel| pixel.2.0[0] == 255) {
                // A pixel of the enlarged mask may lie beyond its box by rounding to the nearest.
                let (x_mid, y_mid) = (x as f32 + 0.5, y as f32 + 0.5);
                assert!(x_mid > x0 - 1.0 && x_mid < x1 + 1.0 && y_mid > y0 - 1.0 && y_mid < y1 + 1.0);
                labelled.put_pixel(x, y, image::Luma([*class as u8 + 1]));
            }
        }
        let agree = semantic.pixels().zip(labelled.pixels()).all(|(a, b)| a.0[0] == 255 || a == b);
        assert!(agree, "sample {index}");
    }
}

#[test]
fn a_jpeg_reads_as_rgb_of_its_size() {
    let image: RgbImage = read_rgb(&data("gray_q85.jpg")).unwrap();
    assert_eq!(image.dimensions(), (203, 151));
    assert!(image.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]));
}

#[test]
fn every_field_of_the_data_components_is_documented() {
    use convmae_framework::component::{Kind, entries};
    let entries: Vec<_> =
        entries().into_iter().filter(|entry| matches!(entry.kind, Kind::Dataset | Kind::Transform)).collect();
    assert!(entries.len() >= 9);
    for entry in entries {
        let schema = (entry.schema)();
        let schema = schema.as_value();
        assert!(schema["description"].is_string(), "{}", entry.name);
        assert_eq!(schema["additionalProperties"], false, "{}", entry.name);
        for (field, of) in schema["properties"].as_object().unwrap() {
            assert!(of["description"].is_string(), "{}.{field} has no description", entry.name);
        }
    }
}
