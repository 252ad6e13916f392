//! Images as rows of pixels: the input of a patch embedding and the target of the reconstruction.

use rayon::prelude::*;

use super::Buffer;
use crate::nn::PatchLayout;

/// The pixels under the windows of a convolution with kernel = stride = `k`, at the kept patches only.
///
/// From images `[B, channels, rows * cell * k, cols * cell * k]` to `[B, P * cell * cell, channels * k * k]`, with columns
/// (channel, row, column) as in a flattened weight `[O, channels, k, k]`.
pub fn windows(images: &[f32], channels: usize, k: usize, layout: &PatchLayout) -> Vec<f32> {
    let PatchLayout { rows, cols, cell, kept, .. } = *layout;
    let (height, width) = (rows * cell * k, cols * cell * k);
    let row_len = channels * k * k;
    assert_eq!(images.len(), layout.batch() * channels * height * width);
    let mut output = vec![0.0; layout.ids.len() * cell * cell * row_len];
    output.par_chunks_mut(cell * cell * row_len).enumerate().for_each(|(patch, output)| {
        let image = &images[patch / kept * channels * height * width..][..channels * height * width];
        let id = layout.ids[patch] as usize;
        let (top, left) = (id / cols * cell * k, id % cols * cell * k);
        for (position, output) in output.chunks_exact_mut(row_len).enumerate() {
            let (top, left) = (top + position / cell * k, left + position % cell * k);
            for (line, output) in output.chunks_exact_mut(k).enumerate() {
                let (channel, row) = (line / k, line % k);
                output.copy_from_slice(&image[(channel * height + top + row) * width + left..][..k]);
            }
        }
    });
    output
}

/// Images `[B, channels, height, width]` to patches of `p x p` pixels, `[B, L, p * p * channels]`, the index within a patch
/// being `(row * p + column) * channels + channel` (`patchify` of the official `models_convmae.py`).
pub fn patchify(images: &[f32], channels: usize, height: usize, width: usize, p: usize) -> Vec<f32> {
    assert!(height.is_multiple_of(p) && width.is_multiple_of(p));
    assert!(images.len().is_multiple_of(channels * height * width));
    let mut output = vec![0.0; images.len()];
    let cols = width / p;
    output.par_chunks_mut(p * p * channels).enumerate().for_each(|(patch, output)| {
        let (image, patch) = (patch / (height / p * cols), patch % (height / p * cols));
        for (pixel, output) in output.chunks_exact_mut(channels).enumerate() {
            let (y, x) = (patch / cols * p + pixel / p, patch % cols * p + pixel % p);
            for (channel, output) in output.iter_mut().enumerate() {
                *output = images[((image * channels + channel) * height + y) * width + x];
            }
        }
    });
    output
}

/// The inverse of [`patchify`]: patches `[B, L, p * p * channels]` to images `[B, channels, height, width]`.
pub fn unpatchify(patches: &[f32], channels: usize, height: usize, width: usize, p: usize) -> Vec<f32> {
    assert!(height.is_multiple_of(p) && width.is_multiple_of(p));
    assert!(patches.len().is_multiple_of(channels * height * width));
    let mut output = vec![0.0; patches.len()];
    let (rows, cols) = (height / p, width / p);
    output.par_chunks_mut(width).enumerate().for_each(|(line, output)| {
        let (image, channel, y) = (line / height / channels, line / height % channels, line % height);
        for (x, output) in output.iter_mut().enumerate() {
            let patch = (image * rows + y / p) * cols + x / p;
            *output = patches[((patch * p + y % p) * p + x % p) * channels + channel];
        }
    });
    output
}

/// Joins `k x k` positions of each patch into one row.
///
/// From `[B * P, cell * cell, channels]` to `[B * P, (cell / k)^2, channels * k * k]`, with columns (channel, row, column): a
/// convolution with kernel = stride = `k` is then a product with its flattened weight.
pub fn merge_cells(x: &[f32], channels: usize, cell: usize, k: usize) -> Buffer {
    let mut output = Buffer::unspecified(x.len());
    each_cell(x, &mut output, channels, cell, k, |x, output, place, tap| {
        for (channel, &x) in x[place..][..channels].iter().enumerate() {
            output[tap + channel * k * k] = x;
        }
    });
    output
}

/// The inverse of [`merge_cells`], which is also its backward.
pub fn split_cells(merged: &[f32], channels: usize, cell: usize, k: usize) -> Buffer {
    let mut output = Buffer::unspecified(merged.len());
    each_cell(merged, &mut output, channels, cell, k, |merged, output, place, tap| {
        for (channel, output) in output[place..][..channels].iter_mut().enumerate() {
            *output = merged[tap + channel * k * k];
        }
    });
    output
}

/// Calls `copy` for every position of every patch with the patch in both arrays, where the position's channels start in the
/// split one, and where the first of them is in the merged one.
fn each_cell(
    from: &[f32],
    to: &mut [f32],
    channels: usize,
    cell: usize,
    k: usize,
    copy: impl Fn(&[f32], &mut [f32], usize, usize) + Sync,
) {
    let patch = cell * cell * channels;
    assert!(cell.is_multiple_of(k) && from.len().is_multiple_of(patch));
    from.par_chunks(patch).zip(to.par_chunks_mut(patch)).for_each(|(from, to)| {
        for position in 0..cell * cell {
            let (row, col) = (position / cell, position % cell);
            let merged = row / k * (cell / k) + col / k;
            let tap = row % k * k + col % k;
            copy(from, to, position * channels, merged * channels * k * k + tap);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|i| i as f32).collect()
    }

    #[test]
    fn a_window_holds_its_pixels_in_the_order_of_a_flattened_weight() {
        // 2 channels, 4 x 4 pixels, 2 x 2 patches of one 2 x 2 window each; patch 2 is the lower left one.
        let layout = PatchLayout::new(2, 2, 1, 1, vec![2]).unwrap();
        let rows = windows(&ramp(32), 2, 2, &layout);
        assert_eq!(rows, [8.0, 9.0, 12.0, 13.0, 24.0, 25.0, 28.0, 29.0]);
    }

    #[test]
    fn patchify_puts_the_channel_last() {
        let patches = patchify(&ramp(3 * 4 * 4), 3, 4, 4, 2);
        assert_eq!(patches[..6], [0.0, 16.0, 32.0, 1.0, 17.0, 33.0]);
        assert_eq!(patches[12..15], [2.0, 18.0, 34.0]);
    }

    #[test]
    fn merged_cells_are_ordered_as_a_flattened_weight() {
        // One patch of 2 x 2 positions with channels (c, 10 + c).
        let merged = merge_cells(&[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0], 2, 2, 2);
        assert_eq!(merged[..], [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    }

    #[test]
    fn windows_of_the_whole_image_are_the_merged_windows_of_its_pixels() {
        // A window of 4 pixels at cell 2 is a merge of 4 x 4 windows of 1 pixel at cell 8.
        let (rows, cols) = (2, 3);
        let images = ramp(2 * 3 * rows * 8 * cols * 8);
        let fine = windows(&images, 3, 1, &PatchLayout::dense(2, rows, cols, 8));
        let coarse = windows(&images, 3, 4, &PatchLayout::dense(2, rows, cols, 2));
        assert_eq!(merge_cells(&fine, 3, 8, 4)[..], coarse);
    }

    proptest! {
        #[test]
        fn unpatchify_inverts_patchify(
            batch in 1usize..3, channels in 1usize..4, rows in 1usize..4, cols in 1usize..4, p in 1usize..5,
        ) {
            let (height, width) = (rows * p, cols * p);
            let images = ramp(batch * channels * height * width);
            let patches = patchify(&images, channels, height, width, p);
            prop_assert_eq!(unpatchify(&patches, channels, height, width, p), images);
        }

        #[test]
        fn split_cells_inverts_merge_cells(
            patches in 1usize..4, channels in 1usize..5, k in 1usize..4, groups in 1usize..3,
        ) {
            let cell = k * groups;
            let x = ramp(patches * cell * cell * channels);
            let merged = merge_cells(&x, channels, cell, k);
            prop_assert_eq!(split_cells(&merged, channels, cell, k).into_vec(), x.clone());
            let mut sorted = merged.into_vec();
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(sorted, x);
        }
    }
}
