//! What detection does with regions, timed: `RoIAlign` and its gradient, NMS, pasted masks.
//!
//! `cargo run --release -p convmae-registry --example regions -- INPUTS.safetensors [--rounds 10]`

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use convmae_framework::component::RoiMask;
use convmae_framework::data::Rle;
use convmae_framework::nn;
use convmae_framework::nn::cpu::roi_align::{self, Roi, RoiAlign, RoiLevel};
use convmae_framework::weights::{TensorMap, read_safetensors};
use convmae_registry::detection::nms::batched_nms;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, rounds) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [file] => (file, 10),
        [file, "--rounds", rounds] => (file, rounds.parse()?),
        _ => return Err("usage: regions INPUTS.safetensors [--rounds ROUNDS]".into()),
    };
    let inputs = read_safetensors(Path::new(file))?.tensors;
    let (forward, backward) = align(&inputs, rounds)?;
    let report = json!({
        "roi_align": forward,
        "roi_align_grad": backward,
        "nms": nms(&inputs, rounds)?,
        "paste": paste(&inputs, rounds)?,
    });
    println!("{report}");
    Ok(())
}

/// Shape and values of an input.
fn input<'a>(inputs: &'a TensorMap, name: &str) -> Result<(&'a [usize], Vec<f32>), String> {
    let tensor = inputs.get(name).ok_or_else(|| format!("there is no `{name}`"))?;
    Ok((&tensor.shape, tensor.to_f32()))
}

/// Regions of one level of a pyramid, at bins as fine as its pixels.
fn align(inputs: &TensorMap, rounds: usize) -> Result<(Value, Value), Box<dyn Error>> {
    let (&[1, height, width, channels], map) = input(inputs, "map")? else { return Err("map".into()) };
    let (_, boxes) = input(inputs, "rois")?;
    let (&[_, down, across, _], grad) = input(inputs, "grad")? else { return Err("grad".into()) };
    let scale = input(inputs, "scale")?.1[0];
    let levels = vec![RoiLevel { height, width, scale }];
    let align = RoiAlign { levels, batch: 1, channels, output: [down, across], sampling_ratio: 0 };
    let rois: Vec<_> = boxes.as_chunks().0.iter().map(|&bbox| Roi { level: 0, image: 0, bbox }).collect();
    let maps = [map.into()];
    let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum();
    let forward = timed(rounds, || roi_align::forward(&align, &maps, &rois), |values| sum(&values))?;
    let backward = timed(rounds, || roi_align::backward(&align, &grad, &rois), |maps| sum(&maps[0]))?;
    Ok((forward, backward))
}

fn nms(inputs: &TensorMap, rounds: usize) -> Result<Value, Box<dyn Error>> {
    let (boxes, scores) = (input(inputs, "boxes")?.1, input(inputs, "scores")?.1);
    let groups: Vec<_> = input(inputs, "groups")?.1.into_iter().map(|group| group as usize).collect();
    let boxes = boxes.as_chunks().0;
    timed(rounds, || Ok(batched_nms(boxes, &scores, &groups, 0.7)), |kept| kept.len() as f64)
}

fn paste(inputs: &TensorMap, rounds: usize) -> Result<Value, Box<dyn Error>> {
    let (shape, masks) = input(inputs, "masks")?;
    let (boxes, size) = (input(inputs, "mask_boxes")?.1, input(inputs, "image")?.1);
    let size = [size[0] as usize, size[1] as usize];
    let cells = shape[1..].iter().product();
    let masks: Vec<_> = masks.chunks_exact(cells).map(|mask| RoiMask(mask.to_vec())).collect();
    let encode = |(mask, &bbox): (&RoiMask, &[f32; 4])| mask.encode(bbox, size);
    // Runs of what is beside an object and of the object in turn.
    let area = |runs: &Rle| runs.counts().iter().skip(1).step_by(2).sum::<u32>();
    timed(
        rounds,
        || Ok(masks.iter().zip(boxes.as_chunks().0).map(encode).collect::<Vec<_>>()),
        |pasted| pasted.iter().map(area).map(f64::from).sum(),
    )
}

/// Seconds of every round after a first one, and what the work gives as a number.
fn timed<T>(
    rounds: usize,
    work: impl Fn() -> nn::Result<T>,
    result: impl Fn(T) -> f64,
) -> Result<Value, Box<dyn Error>> {
    let result = result(work()?);
    let mut seconds = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        std::hint::black_box(work()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(json!({ "seconds": seconds, "result": result }))
}
