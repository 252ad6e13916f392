//! What is done to rows of channels: normalisation, activation, sums, moves.

use criterion::BatchSize;

use convmae_nn::cpu::batch_norm;
use convmae_nn::cpu::tokens::{self, InverseIndex};
use convmae_nn::cpu::{Buffer, Output, chunks, elementwise, gelu, layer_norm};

use crate::roofline::Work;
use crate::suite::Suite;
use crate::{BATCH, KEPT, PATCHES, kept_patches, noise};

/// Operations of a GELU: 18 of `exp`, 12 of the polynomial, a division, and what joins them.
pub const GELU: usize = 44;
/// Operations of its backward, which computes it again.
pub const GELU_BACKWARD: usize = GELU + 4;

/// Rows and channels of the three stages and of the decoder.
const FEATURES: [(usize, usize); 4] =
    [(BATCH * KEPT * 16, 256), (BATCH * KEPT * 4, 384), (BATCH * KEPT, 768), (BATCH * PATCHES, 512)];
/// Rows and channels within the MLPs of the first and the third stage.
const HIDDEN: [(usize, usize); 2] = [(BATCH * KEPT * 16, 1024), (BATCH * KEPT, 3072)];

pub fn layer_norm(suite: &mut Suite) {
    for (rows, channels) in FEATURES {
        let (shape, len) = (format!("{rows}x{channels}"), rows * channels);
        let (x, grad, weight) = (noise(1, len), noise(2, len), vec![1.0; channels]);
        // Mean, variance, result: 1, 3 and 4 operations.
        suite.bench("layer_norm forward", &shape, Work::flops(8 * len).reads(len).writes(len), |b| {
            b.iter(|| layer_norm::forward(&x, &weight, &weight, 1e-6));
        });
        let (_, statistics) = layer_norm::forward(&x, &weight, &weight, 1e-6).unwrap();
        let work = Work::flops(17 * len).reads(2 * len).updates(len);
        let (mut grad_x, mut grads) = (Buffer::zeros(len), [vec![0.0; channels], vec![0.0; channels]]);
        suite.bench("layer_norm backward_onto", &shape, work, |b| {
            b.iter(|| {
                let sums = grads.each_mut().map(|sum| Some((&mut **sum, Output::Replace)));
                layer_norm::backward_onto(&grad, &x, &statistics, &weight, &mut grad_x, sums)
            });
        });
    }
}

/// That of a linear probe.
pub fn batch_norm(suite: &mut Suite) {
    let (rows, channels) = (1024, 768);
    let (shape, len) = (format!("{rows}x{channels}"), rows * channels);
    let (x, mut grad) = (noise(1, len), noise(2, len));
    let ones = vec![1.0; channels];
    suite.bench("batch_norm moments", &shape, Work::flops(4 * len).reads(len), |b| {
        b.iter(|| batch_norm::moments(&x, channels));
    });
    let moments = batch_norm::moments(&x, channels).unwrap();
    suite.bench("batch_norm forward", &shape, Work::flops(3 * len).reads(len).writes(len), |b| {
        b.iter(|| batch_norm::forward(&x, &moments, None, 1e-5));
    });
    suite.bench("batch_norm backward", &shape, Work::flops(11 * len).reads(3 * len).updates(len), |b| {
        b.iter(|| {
            let grads = batch_norm::grad_affine(&x, &grad, &moments, 1e-5).unwrap();
            let batch = Some((grads.each_ref().map(|grad| &**grad), rows));
            batch_norm::grad_input(&x, &mut grad, &moments, Some(&ones), 1e-5, batch)
        });
    });
}

pub fn gelu(suite: &mut Suite) {
    for (rows, channels) in HIDDEN {
        let (shape, len) = (format!("{rows}x{channels}"), rows * channels);
        let (x, grad) = (noise(1, len), noise(2, len));
        suite.bench("gelu forward", &shape, Work::flops(GELU * len).reads(len).writes(len), |b| {
            b.iter(|| gelu::forward(&x));
        });
        let work = Work::flops(GELU_BACKWARD * len).updates(2 * len);
        suite.bench("gelu backward_and_recompute", &shape, work, |b| {
            b.iter_batched_ref(
                || (Buffer::copy(&grad), Buffer::copy(&x)),
                |(grad, x)| gelu::backward_and_recompute(grad, x),
                BatchSize::PerIteration,
            );
        });
    }
}

pub fn elementwise(suite: &mut Suite) {
    let (rows, channels) = FEATURES[3];
    let (shape, len) = (format!("{rows}x{channels}"), rows * channels);
    let (x, ones, mut y) = (noise(1, len), vec![1.0; len], noise(2, len));
    let work = Work::flops(len).reads(len).updates(len);
    suite.bench("add_assign", &shape, work, |b| b.iter(|| elementwise::add_assign(&mut y, &x)));
    suite.bench("mul_assign", &shape, work, |b| b.iter(|| elementwise::mul_assign(&mut y, &ones)));
    suite.bench("scale_parts", &shape, Work::flops(len).updates(len), |b| {
        b.iter(|| elementwise::scale_parts(&mut y, &ones[..BATCH]));
    });
    for (rows, channels) in HIDDEN {
        let (values, mut sums) = (noise(1, rows * channels), vec![0.0; channels]);
        let work = Work::flops(values.len()).reads(values.len());
        suite.bench("sum_rows", &format!("{rows}x{channels}"), work, |b| {
            b.iter(|| chunks::sum_rows(&values, &mut sums, Output::Replace));
        });
    }
}

/// Kept tokens back among mask tokens, and position embeddings of kept tokens.
pub fn tokens(suite: &mut Suite) {
    let (channels, masked) = (512, (BATCH * KEPT) as u32);
    let mut index = vec![masked; BATCH * PATCHES];
    for (place, &id) in kept_patches().iter().enumerate() {
        index[place / KEPT * PATCHES + id as usize] = place as u32;
    }
    let (rows, extra) = (noise(1, BATCH * KEPT * channels), noise(2, channels));
    let (len, shape) = (index.len() * channels, format!("{}x{channels}", index.len()));
    suite.bench("gather_rows", &shape, Work::flops(0).reads(rows.len()).writes(len), |b| {
        b.iter(|| tokens::gather_rows(&rows, Some(&extra), channels, &index));
    });
    let (grad, mut sums) = (noise(3, len), noise(4, rows.len()));
    let (kept, masked) = (BATCH * KEPT, BATCH * (PATCHES - KEPT));
    let places = InverseIndex::new(&index, kept + 1);
    let work = Work::flops(rows.len()).reads(rows.len()).updates(rows.len());
    suite.bench("scatter_rows", &shape, work, |b| {
        b.iter(|| tokens::scatter_rows(&grad, channels, &places, &mut sums, Output::Add));
    });
    let work = Work::flops(masked * channels).reads(masked * channels);
    suite.bench("scatter_row", &format!("{masked}x{channels}"), work, |b| {
        b.iter(|| tokens::scatter_row(&grad, channels, &places, kept));
    });
    let (rows, channels) = FEATURES[2];
    let (mut x, table) = (noise(1, rows * channels), noise(2, PATCHES * channels));
    let work = Work::flops(x.len()).reads(table.len()).updates(x.len());
    suite.bench("add_rows", &format!("{rows}x{channels}"), work, |b| {
        b.iter(|| tokens::add_rows(&mut x, &table, channels, &kept_patches()));
    });
}
