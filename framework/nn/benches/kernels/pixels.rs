//! Images to patches, patches to rows, and the loss.

use std::sync::Arc;

use convmae_nn::cpu::{images, loss, patches};
use convmae_nn::{PatchLayout, Pixels, Result};
use criterion::BatchSize;

use crate::roofline::Work;
use crate::suite::Suite;
use crate::{BATCH, GRID, KEPT, PATCHES, kept_patches, noise};

/// Pixels along a side of an image, and of a patch.
const SIDE: usize = 224;
const PATCH: usize = SIDE / GRID;
/// Values of a patch.
const WIDTH: usize = 3 * PATCH * PATCH;

pub fn patches(suite: &mut Suite) -> Result<()> {
    let pixels = Arc::new(noise(1, BATCH * PATCHES * WIDTH));
    let images = images::upload(&Pixels::Floats(Arc::clone(&pixels)), (BATCH, 3, SIDE, SIDE).into())?;
    let len = pixels.len();
    let shape = format!("{BATCH}x3x{SIDE}x{SIDE}");
    let layout = PatchLayout::new(GRID, GRID, 4, KEPT, kept_patches())?;
    let rows = BATCH * KEPT * WIDTH;
    suite.bench("windows", &shape, Work::flops(0).reads(rows).writes(rows), |b| {
        b.iter(|| patches::windows(&images, 4, &layout));
    });
    suite.bench("patchify", &shape, Work::flops(0).reads(len).writes(len), |b| {
        b.iter(|| patches::patchify(&pixels, 3, SIDE, SIDE, PATCH));
    });
    // To the second stage, to the third, and from the first to the decoder.
    for (channels, cell, k) in [(256, 4, 2), (384, 2, 2), (256, 4, 4)] {
        let x = noise(1, BATCH * KEPT * cell * cell * channels);
        let shape = format!("{channels} channels, {k}x{k} of {cell}x{cell}");
        let work = Work::flops(0).reads(x.len()).writes(x.len());
        suite.bench("merge_cells", &shape, work, |b| {
            b.iter(|| patches::merge_cells(&x, channels, cell, k));
        });
        suite.bench("split_cells", &shape, work, |b| {
            b.iter(|| patches::split_cells(&x, channels, cell, k));
        });
    }
    Ok(())
}

pub fn loss(suite: &mut Suite) -> Result<()> {
    let len = BATCH * PATCHES * WIDTH;
    let shape = format!("{}x{WIDTH}", BATCH * PATCHES);
    let (pred, mut target) = (noise(1, len), noise(2, len));
    let mut removed = vec![1.0; BATCH * PATCHES];
    for (place, &id) in kept_patches().iter().enumerate() {
        removed[place / KEPT * PATCHES + id as usize] = 0.0;
    }
    let read = BATCH * (PATCHES - KEPT) * WIDTH;
    // Mean, variance, result: 1, 3 and 2 operations.
    suite.bench("normalize_patches", &shape, Work::flops(6 * len).updates(len), |b| {
        b.iter(|| loss::normalize_patches(&mut target, WIDTH));
    });
    suite.bench("masked_mse", &shape, Work::flops(3 * read).reads(2 * read), |b| {
        b.iter_batched(
            || loss::values_target(target.clone()),
            |target| loss::masked_mse(&pred, target?, &removed),
            BatchSize::LargeInput,
        );
    });
    let (_, compared) = loss::masked_mse(&pred, loss::values_target(target)?, &removed)?;
    suite.bench("masked_mse_grad", &shape, Work::flops(2 * read).reads(2 * read).writes(len), |b| {
        b.iter(|| loss::masked_mse_grad(&pred, &compared, &[1.0]));
    });
    Ok(())
}
