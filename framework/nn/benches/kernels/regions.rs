//! Regions of interest of one image, as a box head of detection takes them.

use convmae_nn::cpu::roi_align::{self, Roi, RoiAlign, RoiLevel};
use convmae_nn::random::{self, Purpose};
use rand::Rng as _;

use crate::noise;
use crate::roofline::Work;
use crate::suite::Suite;

/// Regions that a box head learns from, and the channels of a pyramid.
const REGIONS: usize = 512;
const CHANNELS: usize = 256;
/// Bins along a side.
const BINS: usize = 7;
/// Side of the image and stride of the level, in pixels.
const SIDE: usize = 1024;
const STRIDE: usize = 16;

pub fn roi_align(suite: &mut Suite) {
    let side = SIDE / STRIDE;
    let levels = vec![RoiLevel { height: side, width: side, scale: 1.0 / STRIDE as f32 }];
    let align = RoiAlign { levels, batch: 1, channels: CHANNELS, output: [BINS, BINS], sampling_ratio: 0 };
    // As large as those that belong to this level: 224 to 448 pixels.
    let mut rng = random::stream(Purpose::Synthesis, &[1]);
    let mut roi = || {
        let [width, height] = [0; 2].map(|_| rng.random_range(224.0..448.0));
        let [x, y] = [width, height].map(|length| rng.random_range(0.0..SIDE as f32 - length));
        Roi { level: 0, image: 0, bbox: [x, y, x + width, y + height] }
    };
    let rois: Vec<_> = (0..REGIONS).map(|_| roi()).collect();
    let (map, grad) = (noise(1, side * side * CHANNELS), noise(2, REGIONS * BINS * BINS * CHANNELS));
    let (inputs, outputs) = (map.len(), grad.len());
    // Weighted sums of rows, then of columns.
    let taps = |weights: &[f32]| weights.iter().filter(|&&weight| weight != 0.0).count();
    let regions = align.regions(0, &rois);
    let sums = regions
        .iter()
        .map(|region| taps(&region.rows.weights) * region.cols.pixels + BINS * taps(&region.cols.weights));
    let flops = 2 * CHANNELS * sums.sum::<usize>();
    let shape = format!("{REGIONS} of {side}x{side}x{CHANNELS}, {BINS}x{BINS}");
    let maps = [map.into()];
    suite.bench("roi_align", &shape, Work::flops(flops).reads(inputs).writes(outputs), |b| {
        b.iter(|| roi_align::forward(&align, &maps, &rois));
    });
    suite.bench("roi_align_grad", &shape, Work::flops(flops).reads(outputs).writes(inputs), |b| {
        b.iter(|| roi_align::backward(&align, &grad, &rois));
    });
}
