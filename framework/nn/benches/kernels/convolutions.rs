//! Convolutions: depthwise on kept patches, and of whole maps.

use convmae_nn::cpu::conv2d::{self, Conv2d, Window};
use convmae_nn::cpu::depthwise::{self, Depthwise};
use convmae_nn::{PatchLayout, Result};

use crate::roofline::Work;
use crate::suite::Suite;
use crate::{BATCH, GRID, KEPT, kept_patches, noise};

/// The 5x5 convolutions of the first two stages.
pub fn depthwise(suite: &mut Suite) -> Result<()> {
    for (cell, channels) in [(4, 256), (2, 384)] {
        let layout = PatchLayout::new(GRID, GRID, cell, KEPT, kept_patches())?;
        let conv = Depthwise { layout: &layout, channels, kernel: 5 };
        let shape = format!("cell {cell}, {channels} channels");
        let values = BATCH * layout.positions() * channels;
        let (x, grad) = (noise(1, values), noise(2, values));
        let (weight, bias) = (noise(3, channels * 25), noise(4, channels));
        // A tap that falls on a masked patch, or out of the image, is no work.
        let products = conv.sources().into_iter().flatten().count() * channels;
        let work = Work::flops(2 * products).reads(values);
        suite.bench("depthwise forward", &shape, work.writes(values), |b| {
            b.iter(|| depthwise::forward(&conv, &x, &weight, Some(&bias), None));
        });
        suite.bench("depthwise grad_input", &shape, work.writes(values), |b| {
            b.iter(|| depthwise::grad_input(&conv, &grad, &weight, None));
        });
        suite.bench("depthwise grad_weight", &shape, work.reads(values), |b| {
            b.iter(|| depthwise::grad_weight(&conv, &x, &grad, None));
        });
    }
    Ok(())
}

/// The 3x3 convolutions behind a feature pyramid.
pub fn conv2d(suite: &mut Suite) {
    let (size, channels) = (2 * GRID, 256);
    let conv = Conv2d {
        batch: BATCH,
        input: [size; 2],
        output: [size; 2],
        in_channels: channels,
        out_channels: channels,
        kernel: 3,
        window: Window::same(3),
    };
    let shape = format!("{BATCH}x{size}x{size}x{channels}");
    let values = BATCH * size * size * channels;
    let (x, grad) = (noise(1, values), noise(2, values));
    let (weight, bias) = (noise(3, channels * channels * 9), noise(4, channels));
    let work = Work::flops(2 * 9 * values * channels).reads(values + weight.len());
    suite.bench("conv2d forward", &shape, work.writes(values), |b| {
        b.iter(|| conv2d::forward(&conv, &x, &weight, Some(&bias)));
    });
    suite.bench("conv2d grad_input", &shape, work.writes(values), |b| {
        b.iter(|| conv2d::grad_input(&conv, &grad, &weight));
    });
    suite.bench("conv2d grad_weight", &shape, work.reads(values), |b| {
        b.iter(|| conv2d::grad_weight(&conv, &x, &grad));
    });
}
