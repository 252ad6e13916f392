//! What one core reads: JPEGs of a folder decoded, and decoded and augmented as for pretraining the base
//! model.
//!
//! `cargo run --release -p convmae-registry --example data_path -- DIR [--seconds 5]`

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use convmae_framework::component::{Dataset, Transform};
use convmae_framework::data::{DataError, Pixels};
use convmae_framework::loader::Pipeline;
use convmae_registry as _;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, seconds) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder] => (folder, 5.0),
        [folder, "--seconds", seconds] => (folder, seconds.parse()?),
        _ => return Err("usage: data_path DIR [--seconds SECONDS]".into()),
    };
    let duration = Duration::try_from_secs_f64(seconds)?;
    let decoding = pipeline(Path::new(folder), json!([]))?;
    // The training transforms of `recipes/_base_/mae_imagenet.yaml`.
    let training = pipeline(
        Path::new(folder),
        json!([
            { "type": "RandomResizedCrop", "size": 224, "scale": [0.2, 1.0], "interpolation": "bicubic" },
            { "type": "RandomHorizontalFlip" },
            { "type": "Normalize" },
        ]),
    )?;
    let report = json!({
        "decode_images_per_s_per_core": rate(&decoding, duration)?,
        "train_images_per_s_per_core": rate(&training, duration)?,
        "images": decoding.samples.len(),
    });
    println!("{report}");
    Ok(())
}

fn pipeline(folder: &Path, transforms: serde_json::Value) -> Result<Pipeline, Box<dyn Error>> {
    let dataset = json!({ "type": "ImageFolder", "root": folder, "labelled": false });
    let dataset: Box<dyn Dataset> = serde_json::from_value(dataset)?;
    let transforms: Vec<Box<dyn Transform>> = serde_json::from_value(transforms)?;
    Ok(Pipeline {
        samples: dataset.open()?,
        transforms,
        batch_transforms: Vec::new(),
        pad_to: None,
        channels: 3,
        seed: 0,
    })
}

/// Samples a second on this thread, which reads the folder once before: files in memory, buffers warm.
fn rate(pipeline: &Pipeline, duration: Duration) -> Result<f64, DataError> {
    let images = pipeline.samples.len();
    for index in 0..images {
        pipeline.sample(0, index)?;
    }
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < duration {
        let sample = pipeline.sample(1 + (count / images) as u64, count % images)?;
        // The result has to be made.
        assert!(!matches!(std::hint::black_box(&sample.pixels), Pixels::Rgb(image) if image.is_empty()));
        count += 1;
    }
    Ok((count as f64 / start.elapsed().as_secs_f64()).round())
}
