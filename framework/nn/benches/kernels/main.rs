//! Every kernel at the shapes of the base model (224 x 224, batch 8, three quarters of the patches masked), against the speed of
//! a matrix product and of copies that this machine reaches in the same run.
//!
//! `cargo bench -p convmae-nn -- --quick` takes about a minute; a word instead of `--quick` selects kernels.

#![allow(clippy::unwrap_used)]

mod convolutions;
mod pixels;
mod products;
mod regions;
mod roofline;
mod rows;
mod suite;
mod updates;

use std::error::Error;

use convmae_nn::device::{self, Precision};
use convmae_nn::random::{self, Purpose};
use rand::Rng as _;

use roofline::Roofs;
use suite::Suite;

/// Images of a batch.
const BATCH: usize = 8;
/// Patches along a side of an image.
const GRID: usize = 14;
/// Patches of an image, and those that are not masked.
const PATCHES: usize = GRID * GRID;
const KEPT: usize = PATCHES / 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut suite = Suite::new();
    let roofs = Roofs::measure();
    for precision in [Precision::Bf16, Precision::F32] {
        device::set_precision(Some(precision))?;
        products::linear(&mut suite);
    }
    products::attention(&mut suite);
    convolutions::depthwise(&mut suite)?;
    convolutions::conv2d(&mut suite);
    rows::layer_norm(&mut suite);
    rows::batch_norm(&mut suite);
    rows::gelu(&mut suite);
    rows::elementwise(&mut suite);
    rows::tokens(&mut suite);
    pixels::patches(&mut suite)?;
    pixels::loss(&mut suite)?;
    regions::roi_align(&mut suite);
    updates::optimizer(&mut suite);
    updates::gradient(&mut suite);
    suite.print(&roofs)
}

/// `len` values, uniform in `[-1, 1)`.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = random::stream(Purpose::Synthesis, &[seed]);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The kept patches of every image, at random, in the order of the grid.
fn kept_patches() -> Vec<u32> {
    let sample = |image: usize| {
        let mut rng = random::stream(Purpose::Step, &[image as u64]);
        let mut ids = rand::seq::index::sample(&mut rng, PATCHES, KEPT).into_vec();
        ids.sort_unstable();
        ids.into_iter().map(|id| id as u32)
    };
    (0..BATCH).flat_map(sample).collect()
}
